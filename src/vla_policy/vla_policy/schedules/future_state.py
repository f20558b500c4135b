# SPDX-License-Identifier: Apache-2.0
"""VLASH (Tang et al., 2025): the policy is given the state in which its chunk will begin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..interface import Context, Policy
from ..poses import invert_pose
from ..types import ActionChunk, Array, PolicyError, RobotState
from .base import Kinematics, Schedule
from .resampling import interpolate


class FutureState(Schedule):
    """Naive asynchronous from a state rolled forward by the delay.

    The measured state moves as the chunk under way commands from the observation to the chunk's
    arrival; the new chunk starts there, at its first step. The images stay those of the
    observation. The nano π0 was not trained on such pairs; VLASH fine-tunes for them.
    """

    name = "vlash"
    _previous: ActionChunk | None = None

    def reset(self) -> None:
        """Forgets the chunk before."""
        self._previous = None

    def act(self, policy: Policy, context: Context, state: RobotState) -> ActionChunk:
        """A chunk from the state that is expected when it arrives."""
        future = self._roll(state)
        chunk = replace(policy.act(context, future), stamp_ns=future.stamp_ns)
        self._previous = chunk
        return chunk

    def _roll(self, state: RobotState) -> RobotState:
        delay = self.delay.steps
        if self._previous is None or delay == 0 or self._previous.stamp_ns > state.stamp_ns:
            return state
        if self._kinematics is None:
            raise PolicyError(f"the schedule {self.name!r} needs the arm's kinematics")
        now = (state.stamp_ns - self._previous.stamp_ns) * 1e-9 / self._step_dt
        # Beyond the chunk's end the arm holds, which is what the last step says.
        commanded, openings = interpolate(self._previous, now + np.array([0.0, delay - 1.0, delay]))
        moved = _moved(self._kinematics, state, commanded)
        if moved is None:
            return state
        q_before, q = moved
        return RobotState(
            stamp_ns=state.stamp_ns + self._ns(delay),
            q=q,
            dq=(q - q_before) / self._step_dt,
            gripper_opening=max(0.0, float(state.gripper_opening + openings[2] - openings[0])),
            pose_tool_in_base=np.asarray(self._kinematics.forward_kinematics(q)),
        )


def _moved(
    kinematics: Kinematics, state: RobotState, commanded: Array
) -> tuple[Array, Array] | None:
    """Joints where they will be a step before the chunk's arrival and then; None: unknown.

    Args:
        kinematics: Of the arm.
        state: As measured.
        commanded: References of now, of that step and of that arrival.
    """
    if commanded.ndim == 2:
        before, then = state.q + commanded[1:] - commanded[0]
        return before, then
    joints = [state.q]
    for reference in commanded[1:]:
        pose = state.pose_tool_in_base @ (invert_pose(commanded[0]) @ reference)
        solution, found = kinematics.inverse_kinematics(pose, joints[-1])
        if not found:
            return None
        joints.append(np.asarray(solution))
    return joints[1], joints[2]
