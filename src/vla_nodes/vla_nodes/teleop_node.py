# SPDX-License-Identifier: Apache-2.0
"""teleop_node: an operator's device takes the arm and moves it.

See `teleop.driver` for what holding, letting go and silence mean, `teleop.devices` for the devices.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_srvs.srv import Trigger

from vla_nodes import convert
from vla_nodes.configs import TeleopConfig
from vla_nodes.node_tools import STEADY, WARN, Diagnostics, run
from vla_nodes.parameters import declare
from vla_nodes.teleop.clutch import Bounds, Input, InputError
from vla_nodes.teleop.devices import Absent, beyond_dead_zone
from vla_nodes.teleop.devices.gamepad import Gamepad
from vla_nodes.teleop.devices.hand_held import HandHeldSettings
from vla_nodes.teleop.devices.pedal import Pedal
from vla_nodes.teleop.devices.spacemouse import SpaceMouse
from vla_nodes.teleop.driver import TeleopDriver

AXES = 6
POLL_PERIOD = 0.01  # s between looks at a device of this machine
ENABLED = 0.2  # s that a leader arm's button counts as held after it was heard of


class TeleopNode(Node):
    """Listens to one device."""

    def __init__(self, **options: Any) -> None:
        """Declares parameters and connects; ``options`` are those of a node."""
        super().__init__("teleop", **options)
        config = self.config = declare(self, TeleopConfig, "teleop_node")
        if len(config.joy_axes) != AXES:
            raise ValueError(f"joy_axes has {len(config.joy_axes)} values; valid: {AXES}")
        bounds = Bounds(config.speed, config.turning, config.scale, config.jump, config.jump_angle)
        self.driver = TeleopDriver(self, config.device or config.input, bounds)
        self._opening: float | None = None
        self._local: Gamepad | SpaceMouse | Pedal | None = None  # a device of this machine
        self._enabled_at = -np.inf  # s (steady), a leader arm, by a Joy
        {
            "gamepad": self._use_hand_held,
            "spacemouse": self._use_hand_held,
            "leader": self._use_leader,
            "joy": lambda: self._listen(Joy, "joy", self._on_joy),
            "twist": lambda: self._listen(TwistStamped, "teleop/twist", self._on_twist),
            "pose": lambda: self._listen(PoseStamped, "teleop/pose", self._on_pose),
        }[config.input]()
        self.create_service(Trigger, "teleop/let_go", self._let_go)
        self._diagnostics = Diagnostics(self, config.diagnostics_rate, self._health)

    def close(self) -> None:
        """Lets go of the device."""
        if self._local is not None:
            self._local.close()

    @property
    def problem(self) -> str:
        """What is wrong with a device of this machine; empty = nothing."""
        return self._local.problem if self._local is not None else ""

    def _listen(self, kind: Any, topic: str, take: Callable[[Any], None]) -> None:
        self.create_subscription(kind, topic, lambda message: self._guard(take, message), 10)

    def _guard(self, take: Callable[..., None], *arguments: Any) -> None:
        try:
            take(*arguments)
        except (InputError, convert.ConversionError) as error:
            self.driver.reject(str(error))

    def _let_go(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.driver.let_go()
        response.success, response.message = True, f"{self.driver.device} lets go"
        return response

    def _health(self) -> tuple[bytes, str, Mapping[str, Any]]:
        level, message, values = self.driver.health()
        return (WARN, self.problem, values) if self.problem else (level, message, values)

    # --- devices of this machine ------------------------------------------------------------------

    def _use_hand_held(self) -> None:
        config = self.config
        settings = HandHeldSettings(
            speed=config.speed,
            turning=config.turning,
            dead_zone=config.dead_zone,
            in_tool=config.in_tool,
            max_opening=config.max_opening,
            unchanged_limit=config.unchanged_limit,
        )
        kind = Gamepad if config.input == "gamepad" else SpaceMouse
        device = self._local = kind(settings, config.event_device)

        def poll() -> None:
            said = device.poll(time.monotonic())
            if isinstance(said, Input):
                self.driver.hold(said)
            elif said is Absent.RELEASED:
                self.driver.let_go()

        self.create_timer(POLL_PERIOD, lambda: self._guard(poll), clock=STEADY)

    # --- a leader arm -----------------------------------------------------------------------------

    def _use_leader(self) -> None:
        # Loads pinocchio, which other devices do without.
        from vla_nodes.teleop.devices.leader import LeaderArm, LeaderSettings

        config = self.config
        self._leader = LeaderArm(
            LeaderSettings(
                urdf=config.leader_urdf,
                joint_names=config.leader_joint_names,
                base_frame=config.leader_base_frame,
                tool_frame=config.leader_tool_frame,
                gripper_joint=config.leader_gripper_joint,
                gripper_closed=config.leader_gripper_closed,
                gripper_open=config.leader_gripper_open,
                max_opening=config.max_opening,
            )
        )
        if config.event_device:
            self._local = Pedal(config.event_device)
        else:
            self._listen(Joy, "joy", self._on_enable)
        self._listen(JointState, "leader/joint_states", self._on_leader)

    def _on_enable(self, message: Joy) -> None:
        button = self.config.joy_enable_button
        if button >= len(message.buttons):
            raise InputError(
                f"the device has {len(message.buttons)} buttons; joy_enable_button is {button}"
            )
        if message.buttons[button]:
            self._enabled_at = time.monotonic()
        else:
            self._enabled_at = -np.inf
            self.driver.let_go()

    def _on_leader(self, message: JointState) -> None:
        now = time.monotonic()
        if isinstance(self._local, Pedal):
            held = self._local.poll(now)
            if held is Absent.RELEASED:
                self.driver.let_go()
            if held is not True:
                return
        elif now - self._enabled_at > ENABLED:
            return
        if len(message.name) != len(message.position):
            raise InputError(
                f"the leader says {len(message.position)} positions of {len(message.name)} joints"
            )
        self.driver.hold(self._leader.said(dict(zip(message.name, message.position, strict=True))))

    # --- devices that speak ROS -------------------------------------------------------------------

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
        twist = beyond_dead_zone(values, config.dead_zone)
        twist *= [config.speed] * 3 + [config.turning] * 3
        if message.buttons[config.joy_open_button]:
            self._opening = config.max_opening
        elif message.buttons[config.joy_close_button]:
            self._opening = 0.0
        self.driver.hold(Input(twist=twist, in_tool=config.in_tool, opening=self._opening))


def main() -> int:
    """Runs the node."""
    return run(TeleopNode)


if __name__ == "__main__":
    sys.exit(main())
