# SPDX-License-Identifier: Apache-2.0
"""teleop_node: an operator's device that speaks ROS takes the arm and moves it.

See `teleop.driver` for what holding, letting go and silence mean.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_srvs.srv import Trigger

from vla_nodes import convert
from vla_nodes.configs import TeleopConfig
from vla_nodes.node_tools import Diagnostics, run
from vla_nodes.parameters import declare
from vla_nodes.teleop.clutch import Bounds, Input, InputError
from vla_nodes.teleop.driver import TeleopDriver

AXES = 6


class TeleopNode(Node):
    """Listens to one device."""

    def __init__(self, **options: Any) -> None:
        """Declares parameters and connects; ``options`` are those of a node."""
        super().__init__("teleop", **options)
        config = self.config = declare(self, TeleopConfig, "teleop_node")
        if len(config.joy_axes) != AXES:
            raise ValueError(f"joy_axes has {len(config.joy_axes)} values; valid: {AXES}")
        bounds = Bounds(config.speed, config.turning, config.scale, config.jump, config.jump_angle)
        self.driver = TeleopDriver(self, config.device, bounds)
        self._opening: float | None = None
        kind, topic, take = {
            "joy": (Joy, "joy", self._on_joy),
            "twist": (TwistStamped, "teleop/twist", self._on_twist),
            "pose": (PoseStamped, "teleop/pose", self._on_pose),
        }[config.input]
        self.create_subscription(kind, topic, self._guarded(take), 10)
        self.create_service(Trigger, "teleop/let_go", self._let_go)
        self._diagnostics = Diagnostics(self, config.diagnostics_rate, self.driver.health)

    def _guarded(self, take: Any) -> Any:
        def on_message(message: Any) -> None:
            try:
                take(message)
            except (InputError, convert.ConversionError) as error:
                self.driver.reject(str(error))

        return on_message

    def _let_go(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.driver.let_go()
        response.success, response.message = True, f"{self.config.device} lets go"
        return response

    def _on_twist(self, message: TwistStamped) -> None:
        frame, frames = message.header.frame_id, self.driver.frames
        if frames is not None and frame not in ("", *frames):
            raise InputError(f"the twist is in the frame {frame!r}; valid: {', '.join(frames)}")
        in_tool = frames is not None and frame == frames[1]
        self.driver.hold(Input(twist=convert.from_twist(message.twist), in_tool=in_tool))

    def _on_pose(self, message: PoseStamped) -> None:
        self.driver.hold(Input(pose=convert.from_pose(message.pose)))

    def _on_joy(self, message: Joy) -> None:
        config = self.config
        needed = (config.joy_enable_button, config.joy_open_button, config.joy_close_button)
        if max(needed) >= len(message.buttons) or max(config.joy_axes) >= len(message.axes):
            raise InputError(
                f"the device has {len(message.axes)} axes and {len(message.buttons)} buttons; "
                f"joy_axes names {list(config.joy_axes)}, the buttons are {list(needed)}"
            )
        if not message.buttons[config.joy_enable_button]:
            self._opening = None  # the next hold begins with the gripper as it is
            self.driver.let_go()
            return
        values = np.array([message.axes[i] if i >= 0 else 0.0 for i in config.joy_axes])
        beyond = np.abs(values) > config.joy_deadzone
        twist = np.where(beyond, values, 0.0) * ([config.speed] * 3 + [config.turning] * 3)
        if message.buttons[config.joy_open_button]:
            self._opening = config.max_opening
        elif message.buttons[config.joy_close_button]:
            self._opening = 0.0
        self.driver.hold(Input(twist=twist, in_tool=config.joy_in_tool, opening=self._opening))


def main() -> int:
    """Runs the node."""
    return run(TeleopNode)


if __name__ == "__main__":
    sys.exit(main())
