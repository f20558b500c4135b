# SPDX-License-Identifier: Apache-2.0
"""The actions of franka_gripper."""

from __future__ import annotations

from typing import Any

from franka_msgs.action import Grasp, Homing, Move
from franka_msgs.msg import GraspEpsilon
from rclpy.node import Node
from std_srvs.srv import Trigger

from vla_nodes.gripper.actions import GripperActions
from vla_nodes.gripper.rules import Motion, Send


class FrankaActions(GripperActions):
    """franka_gripper: ``<name>/move``, ``grasp``, ``homing`` and the service ``stop``.

    Its server runs goals side by side, so that one has to be over before the next.
    """

    replaces = False

    def __init__(
        self, node: Node, name: str, *, max_opening: float, speed: float, **callbacks: Any
    ) -> None:
        kinds = {
            Motion.MOVE: (Move, f"{name}/move"),
            Motion.GRASP: (Grasp, f"{name}/grasp"),
            Motion.HOME: (Homing, f"{name}/homing"),
        }
        super().__init__(node, kinds, **callbacks)
        self._max_opening, self._speed = max_opening, speed
        self._stop = node.create_client(Trigger, f"{name}/stop")

    def stop(self) -> None:
        """Calls the service ``stop``."""
        if self._stop.service_is_ready():
            self._stop.call_async(Trigger.Request())

    def _message(self, goal: Send) -> Any:
        if goal.motion is Motion.HOME:
            return Homing.Goal()
        if goal.motion is Motion.MOVE:
            return Move.Goal(width=goal.opening, speed=self._speed)
        # Whatever is between the fingers is held: how wide it is nobody knows beforehand.
        epsilon = GraspEpsilon(inner=self._max_opening, outer=self._max_opening)
        return Grasp.Goal(width=goal.opening, epsilon=epsilon, speed=self._speed, force=goal.force)

    def _judge(self, goal: Send, result: Any, succeeded: bool) -> tuple[bool, str]:
        return succeeded and result.success, result.error
