# SPDX-License-Identifier: Apache-2.0
"""Grippers that take actions: what they share, and the two standard actions of control_msgs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from action_msgs.msg import GoalStatus
from control_msgs.action import GripperCommand, ParallelGripperCommand
from rclpy.action import ActionClient
from rclpy.node import Node
from sensor_msgs.msg import JointState

from vla_nodes.gripper.rules import End, Motion, Send


@dataclass(frozen=True)
class Fingers:
    """How the opening follows from the finger joints: ``offset + scale * sum(positions)``, m."""

    joints: tuple[str, ...]
    scale: float
    offset: float

    def __post_init__(self) -> None:
        """Checks that positions follow from an opening."""
        if not self.joints or self.scale == 0.0:
            raise ValueError(
                f"finger_joint_names is {list(self.joints)} and finger_scale {self.scale}; "
                "a joint and a scale other than 0 are needed"
            )

    def opening(self, message: JointState) -> float | None:
        """The opening in m; None for a message that lacks one of the joints."""
        positions = dict(zip(message.name, message.position, strict=False))
        if any(name not in positions for name in self.joints):
            return None
        return self.offset + self.scale * sum(positions[name] for name in self.joints)

    def position(self, opening: float) -> float:
        """Position of each finger joint at an opening; they move alike."""
        return (opening - self.offset) / (self.scale * len(self.joints))


class GripperActions:
    """Sends goals to a gripper's action servers and tells what becomes of them.

    Everything runs in the thread that spins the node.
    """

    #: Whether the server replaces a goal under way by a newer one itself.
    replaces = True

    def __init__(
        self,
        node: Node,
        kinds: dict[Motion, tuple[Any, str]],
        on_accepted: Callable[[int], None],
        on_end: Callable[[int, End, str], None],
    ) -> None:
        """Connects.

        Args:
            node: The node.
            kinds: Type and name of the action of each motion.
            on_accepted: Called with a goal's number when the server has taken it.
            on_end: Called with a goal's number, how it ended and why.
        """
        self._on_accepted = on_accepted
        self._on_end = on_end
        self._number = 0  # of the goal that counts; 0 = none
        self._handle: Any = None
        clients = {name: ActionClient(node, kind, name) for kind, name in set(kinds.values())}
        self._clients = {motion: clients[name] for motion, (_, name) in kinds.items()}
        self._names = {motion: name for motion, (_, name) in kinds.items()}

    def missing(self, motion: Motion | None = None) -> str:
        """What is not there, for one motion or for any; empty = nothing."""
        for one, client in self._clients.items():
            if motion in (None, one) and not client.server_is_ready():
                return f"the action {self._names[one]}"
        if motion is not None and motion not in self._clients:
            return f"an action for {motion.value}"
        return ""

    def send(self, goal: Send) -> None:
        """Sends a goal; the one before does not count any more."""
        self._number, self._handle = goal.number, None
        future = self._clients[goal.motion].send_goal_async(self._message(goal))
        future.add_done_callback(partial(self._on_response, goal))

    def cancel(self, number: int) -> None:
        """Cancels a goal; one that is not accepted yet is canceled when it is."""
        if number != self._number:
            return
        if self._handle is not None:
            self._handle.cancel_goal_async()
        else:
            self._number = 0

    def stop(self) -> None:
        """Stops the fingers by other means than a cancellation, where there are any."""

    def _on_response(self, goal: Send, future: Any) -> None:
        handle = future.result()
        if goal.number != self._number:
            # Its answer came too late: nobody waits for what it would do.
            if handle is not None and handle.accepted:
                handle.cancel_goal_async()
            return
        if handle is None or not handle.accepted:
            self._on_end(goal.number, End.REJECTED, "")
            return
        self._handle = handle
        self._on_accepted(goal.number)
        handle.get_result_async().add_done_callback(partial(self._on_result, goal))

    def _on_result(self, goal: Send, future: Any) -> None:
        response = future.result()
        if goal.number != self._number or response is None:
            return
        self._number, self._handle = 0, None
        if response.status == GoalStatus.STATUS_CANCELED:
            end, text = End.CANCELED, ""
        else:
            succeeded = response.status == GoalStatus.STATUS_SUCCEEDED
            good, text = self._judge(goal, response.result, succeeded)
            end = End.SUCCEEDED if good else End.FAILED
        self._on_end(goal.number, end, text)

    def _message(self, goal: Send) -> Any:
        """The goal as the server takes it."""
        raise TypeError(f"{type(self).__name__} has no message for {goal.motion}")

    def _judge(self, goal: Send, result: Any, succeeded: bool) -> tuple[bool, str]:
        """Whether the goal was reached, and why not."""
        raise TypeError(f"{type(self).__name__} does not know the result of {goal.motion}")


class StandardActions(GripperActions):
    """The one action of a gripper controller of ros2_control, or of what looks like one.

    A grasp ends when the fingers stall: the controller goes on pressing.
    """

    def __init__(
        self, node: Node, kind: Any, name: str, fingers: Fingers, **callbacks: Any
    ) -> None:
        super().__init__(node, {Motion.MOVE: (kind, name), Motion.GRASP: (kind, name)}, **callbacks)
        self._kind, self._fingers = kind, fingers

    def _message(self, goal: Send) -> Any:
        message = self._kind.Goal()
        position = self._fingers.position(goal.opening)
        if self._kind is GripperCommand:
            message.command.position, message.command.max_effort = position, goal.force
        else:
            message.command.name = [self._fingers.joints[0]]
            message.command.position, message.command.effort = [position], [goal.force]
        return message

    def _judge(self, goal: Send, result: Any, succeeded: bool) -> tuple[bool, str]:
        if goal.motion is Motion.GRASP and result.stalled:
            return True, ""
        reached = succeeded and (result.reached_goal or result.stalled)
        return reached, "stalled" if result.stalled else "the goal was not reached"


def make_gripper_actions(
    kind: str,
    node: Node,
    name: str,
    *,
    fingers: Fingers,
    max_opening: float,
    speed: float,
    **callbacks: Any,
) -> GripperActions:
    """The gripper of a kind, as GripperConfig.adapter names it; see the classes."""
    if kind == "franka":
        # franka_msgs is there only where a Franka is.
        from vla_nodes.gripper.franka import FrankaActions

        return FrankaActions(node, name, max_opening=max_opening, speed=speed, **callbacks)
    action = GripperCommand if kind == "gripper_command" else ParallelGripperCommand
    return StandardActions(node, action, name, fingers, **callbacks)
