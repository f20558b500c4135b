# SPDX-License-Identifier: Apache-2.0
"""What every schedule does: when to infer, from what, and what of the result to send."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..interface import Context, Policy
from ..spec import PolicySpec
from ..types import ActionChunk, RobotState
from .delay import DelayWindow


class Kinematics(Protocol):
    """Of the arm; a ``vla_control.RobotModel`` has it."""

    def forward_kinematics(self, q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(4, 4) pose of the tool in the base frame."""
        ...

    def inverse_kinematics(
        self, pose: npt.NDArray[np.float64], q_seed: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], bool]:
        """Joints (n,) near ``q_seed`` for a pose of the tool, and whether they were found."""
        ...


class Schedule:
    """Naive asynchronous execution, which the others change.

    The policy infers while the chunk before is executed; the new one replaces it as soon as it
    arrives, at the step that is due by then.

    It keeps chunks, not policies: the same schedule serves whatever policy it is given, and is to
    be reset where another one takes over. One thread.

    Args:
        spec: Of the policy.
        initial_delay: Delay expected before anything has been measured, s.
        kinematics: Of the arm.

    Raises:
        ValueError: If chunks are too short for the delay.
    """

    name = "asynchronous"
    needs_flow = False

    def __init__(
        self, spec: PolicySpec, initial_delay: float, kinematics: Kinematics | None = None
    ) -> None:
        self.delay = DelayWindow(spec.step_dt, initial_delay)
        self._horizon = spec.horizon
        self._step_dt = spec.step_dt
        self._execute_steps = spec.execute_steps
        self._kinematics = kinematics
        if self.is_late:
            raise ValueError(
                f"a delay of {self.delay.steps} steps is too long for chunks of {spec.horizon} "
                f"steps of which {spec.execute_steps} are executed; valid: d <= H - max(s, d)"
            )

    @property
    def period_steps(self) -> int:
        """s, steps from one observation to the next."""
        return max(self._execute_steps, self.delay.steps)

    @property
    def is_late(self) -> bool:
        """Whether a chunk runs out before the next one arrives."""
        return self.delay.steps > self._horizon - self.period_steps

    def reset(self) -> None:
        """Forgets the chunks of an episode, a grant, an instruction or a policy."""

    def act(self, policy: Policy, context: Context, state: RobotState) -> ActionChunk:
        """The chunk to be sent for a context and the robot's state."""
        return policy.act(context, state)

    def deliver(self, chunk: ActionChunk, now_ns: int) -> ActionChunk:
        """The chunk as it is sent at a time."""
        del now_ns
        return chunk

    def due_ns(self, observed_ns: int, delivered_ns: int) -> int:
        """When the next observation is due."""
        del delivered_ns
        return observed_ns + self._ns(self.period_steps)

    def _ns(self, steps: int) -> int:
        return round(steps * self._step_dt * 1e9)
