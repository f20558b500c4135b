# SPDX-License-Identifier: Apache-2.0
"""gripper_node: drives a real gripper's actions from what the controller commands.

See `gripping` for the rules and `gripper_actions` for the grippers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from vla_msgs.msg import ControllerState
from vla_nodes.configs import GripperConfig
from vla_nodes.gripper.actions import Fingers, make_gripper_actions
from vla_nodes.gripper.rules import Cancel, End, Gripping, GrippingRules, Motion, Send, Setpoint
from vla_nodes.node_tools import OK, RELIABLE, STEADY, WARN, Diagnostics, run
from vla_nodes.parameters import declare

STEP_PERIOD = 0.02  # s
LEFT_ALONE = (ControllerState.PHASE_INACTIVE, ControllerState.PHASE_FAULT)
MOVING = (ControllerState.PHASE_TRACKING, ControllerState.PHASE_BRAKING)


class GripperNode(Node):
    """Listens to the controller and to the fingers, and sends goals."""

    def __init__(self, **options: Any) -> None:
        """Declares parameters and connects; ``options`` are those of a node."""
        super().__init__("gripper", **options)
        config = self.config = declare(self, GripperConfig, "gripper_node")
        self._fingers = Fingers(
            config.finger_joint_names, config.finger_scale, config.finger_offset
        )
        self._actions = make_gripper_actions(
            config.adapter,
            self,
            config.action,
            fingers=self._fingers,
            max_opening=config.max_opening,
            speed=config.speed,
            on_accepted=lambda number: self.core.on_accepted(number, time.monotonic()),
            on_end=self._on_end,
        )
        self.core = Gripping(
            GrippingRules(
                max_opening=config.max_opening,
                opening_hysteresis=config.opening_hysteresis,
                force_hysteresis=config.force_hysteresis,
                min_period=config.min_period,
                answer_timeout=config.answer_timeout,
                result_timeout=config.result_timeout,
                retries=config.retries,
                state_timeout=config.state_timeout,
                replaces=self._actions.replaces,
            )
        )
        self._phase = ControllerState.PHASE_INACTIVE
        self.create_subscription(ControllerState, "controller/state", self._on_state, RELIABLE)
        self.create_subscription(JointState, "joint_states", self._on_joints, RELIABLE)
        self.create_service(Trigger, "gripper/home", self._on_home)
        self.create_timer(STEP_PERIOD, self._step, clock=STEADY)
        self._diagnostics = Diagnostics(self, config.diagnostics_rate, self._health)

    def _on_state(self, message: ControllerState) -> None:
        self._phase = message.phase
        setpoint = None
        if message.gripper_commanded and message.phase not in LEFT_ALONE:
            setpoint = Setpoint(message.gripper_opening_command, message.gripper_max_force)
        self.core.on_setpoint(setpoint, time.monotonic())

    def _on_joints(self, message: JointState) -> None:
        opening = self._fingers.opening(message)
        if opening is not None:
            self.core.on_width(opening, time.monotonic())

    def _on_home(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._phase in MOVING:
            why = "the arm moves"
        else:
            why = self.core.home(time.monotonic(), self._actions.missing(Motion.HOME))
        response.success, response.message = not why, why or "homing"
        return response

    def _on_end(self, number: int, end: End, text: str) -> None:
        self.core.on_end(number, end, text, time.monotonic())

    def _step(self) -> None:
        action = self.core.step(time.monotonic(), self._actions.missing())
        if isinstance(action, Send):
            self.get_logger().info(
                f"{action.motion.value} {1e3 * action.opening:.0f} mm, {action.force:.0f} N"
            )
            self._actions.send(action)
        elif isinstance(action, Cancel):
            self._actions.cancel(action.number)
        elif action is not None:
            self._actions.stop()
        for note in self.core.drain_notes():
            self.get_logger().warning(note)

    def _health(self) -> tuple[bytes, str, Mapping[str, Any]]:
        core = self.core
        values = {"goals": core.goals, "failures of this setpoint": core.failures}
        if core.waits_for:
            return WARN, f"waits for {core.waits_for}", values
        if core.problem:
            return WARN, core.problem, values
        return OK, core.under_way or "waits for a change", values


def main() -> int:
    """Runs the node."""
    return run(GripperNode)


if __name__ == "__main__":
    sys.exit(main())
