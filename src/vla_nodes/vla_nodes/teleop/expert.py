# SPDX-License-Identifier: Apache-2.0
"""A scripted expert as the operator of a simulated arm: it demonstrates, or corrects a policy.

`sim_node` says what its expert would do from where everything is. Here that is an operator's device
like any other: it claims the arm with ``teleop/command`` and moves it with ``teleop/action_chunk``,
as the supervisor allows it. The expert begins at the controller's reference, so that nothing jumps
when it takes over.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node

from vla_msgs.msg import ActionChunk, ControlOwner, Outcome, TaskStatus, TeleopCommand
from vla_nodes import convert
from vla_nodes.node_tools import NEWEST, RELIABLE, STEADY
from vla_nodes.teleop.driver import has_arm
from vla_sim.typing import FloatArray

DEVICE = "expert"
MODES = ("demonstrates", "corrects")
PERIOD = 0.02  # s between two commands
AHEAD = 0.5  # s after a policy's observation at which it is compared with the expert
APART = 0.05  # m between the two then, beyond which the policy does something else
TIMES = 3  # chunks in a row that do something else: the policy goes wrong
NEAR = 0.15  # s between the stamps of chunks that may be compared
LONGEST = 30.0  # s of ROS time that the expert keeps the arm in one episode
REMEMBERED = 20  # of the expert's plans
APPEAR_TIMEOUT = 20.0  # s for the simulation to be seen


@dataclass(frozen=True)
class Way:
    """Where a chunk leads the tool: (N, 3) positions in the base frame, m, from ``stamp`` on, s."""

    stamp: float
    step_dt: float
    positions: FloatArray

    def at(self, when: float) -> FloatArray:
        """Position at a time, s; before its beginning and after its end the first and last."""
        times = self.stamp + self.step_dt * np.arange(len(self.positions))
        return np.array([np.interp(when, times, axis) for axis in self.positions.T])


class Doubt:
    """Whether a policy goes wrong: several of its chunks in a row lead elsewhere than the expert's.

    A policy that is only slower, or takes another way for a moment, is left alone.
    """

    def __init__(self) -> None:
        """No chunk has been seen."""
        self._apart = 0

    def forget(self) -> None:
        """Another episode begins, or the policy begins anew."""
        self._apart = 0

    def compare(self, policy: Way, expert: Way) -> bool:
        """Takes one chunk of the policy and what the expert would have done; True = it is wrong."""
        when = policy.stamp + AHEAD
        away = float(np.linalg.norm(policy.at(when) - expert.at(when)))
        self._apart = self._apart + 1 if away > APART else 0
        return self._apart >= TIMES


class ExpertOperator(Node):
    """Holds the arm while the expert is to move it, and lets go once the task is done."""

    def __init__(self, mode: str) -> None:
        """Connects.

        Args:
            mode: ``demonstrates``: takes the arm in every episode as soon as the policy has it;
                ``corrects``: takes it from a policy that goes wrong.

        Raises:
            ValueError: There is no such mode.
        """
        super().__init__("vla_expert")
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; valid: {', '.join(MODES)}")
        self.interventions = self.episodes = 0
        self.owner: ControlOwner | None = None
        self._mode = mode
        self._doubt = Doubt()
        self._plans: deque[tuple[Way, ActionChunk]] = deque(maxlen=REMEMBERED)
        self._holds = False
        self._claims = False  # as said last
        self._finished = False  # with this episode
        self._held_since: float | None = None  # s of ROS time
        self._sequence = 0
        self._patient_until = time.monotonic() + APPEAR_TIMEOUT
        self._commands = self.create_publisher(TeleopCommand, "teleop/command", RELIABLE)
        self._chunks = self.create_publisher(ActionChunk, "teleop/action_chunk", RELIABLE)
        for kind, topic, take in (
            (ControlOwner, "control_owner", self._on_owner),
            (TaskStatus, "task/status", self._on_status),
            (ActionChunk, "sim/_expert", self._on_expert),
            (ActionChunk, "policy/action_chunk", self._on_policy),
        ):
            self.create_subscription(kind, topic, take, NEWEST)
        self.create_timer(PERIOD, self._claim, clock=STEADY)

    def _on_owner(self, message: ControlOwner) -> None:
        before, self.owner = self.owner, message
        if before is None or message.episode_id != before.episode_id:
            self._holds, self._finished, self._held_since = False, not message.episode_id, None
            self._doubt.forget()
            self.episodes += bool(message.episode_id)
        if message.state == ControlOwner.STATE_AUTONOMOUS and self._mode == "demonstrates":
            self._take()

    def _take(self) -> None:
        if not self._holds and not self._finished:
            self._holds = True
            self.interventions += 1

    def _let_go(self) -> None:
        self._holds, self._finished = False, True

    def _on_status(self, message: TaskStatus) -> None:
        owner = self.owner
        ours = owner is not None and message.episode_id == owner.episode_id
        if ours and message.outcome.outcome == Outcome.SUCCESS:
            self._let_go()

    def _on_policy(self, message: ActionChunk) -> None:
        owner = self.owner
        watched = owner is not None and owner.state == ControlOwner.STATE_AUTONOMOUS
        if self._mode != "corrects" or not watched or not self._plans or not message.poses:
            return
        way = _way(message)
        plan = min((plan for plan, _ in self._plans), key=lambda p: abs(p.stamp - way.stamp))
        if abs(plan.stamp - way.stamp) <= NEAR and self._doubt.compare(way, plan):
            self._take()

    def _on_expert(self, message: ActionChunk) -> None:
        way = _way(message)
        self._plans.append((way, message))
        if not self._holds or not has_arm(DEVICE, self.owner):
            return
        if self._held_since is None:
            self._held_since = way.stamp
        if way.stamp - self._held_since > LONGEST:
            self.get_logger().warning(f"not done within {LONGEST:g} s; lets go")
            self._let_go()
            return
        self._sequence += 1
        message.sequence, message.policy_id = self._sequence, DEVICE
        self._chunks.publish(message)

    def _claim(self) -> None:
        """Says, again and again, whether the arm is held."""
        if not self._plans:
            if time.monotonic() > self._patient_until:
                self._patient_until = float("inf")
                self.get_logger().warning("nobody publishes sim/_expert; is a simulation up?")
            return
        _, plan = self._plans[-1]
        # Where the supervisor has not heard of it in time, it has to let go before it is held anew.
        missed = self.owner is not None and self.owner.state == ControlOwner.STATE_PAUSED
        self._claims = self._holds and not (missed and self._claims)
        command = TeleopCommand(header=plan.header, device=DEVICE, enabled=self._claims)
        if self._claims:
            command.use_pose, command.pose = True, plan.poses[1]
            command.use_gripper, command.gripper_opening = True, plan.gripper_opening[1]
        self._commands.publish(command)


def _way(message: ActionChunk) -> Way:
    positions = [(pose.position.x, pose.position.y, pose.position.z) for pose in message.poses]
    stamp = 1e-9 * convert.from_time(message.header.stamp)
    return Way(stamp, message.step_dt, np.array(positions))
