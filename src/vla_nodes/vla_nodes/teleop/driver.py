# SPDX-License-Identifier: Apache-2.0
"""Claims the arm for an operator's device and sends what it asks for, as the supervisor allows it.

Three things are told apart. A device that is *held* claims the arm. One that *lets go* gives it
back: a task in force goes on. One that is *silent*, or says what cannot be followed, does neither:
the supervisor misses the claim, and the arm holds until somebody says what shall be.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from rclpy.node import Node

from vla_msgs.msg import ActionChunk, ControllerState, ControlOwner, TeleopCommand
from vla_nodes import convert
from vla_nodes.node_tools import NEWEST, OK, RELIABLE, STEADY, WARN
from vla_nodes.teleop.clutch import Bounds, Clutch, Input, InputError

SOONEST = 0.015  # s between two commands, at least
AGAIN = 0.03  # s after which a command is repeated where the device has said nothing new
PERIOD = 0.02  # s between looks whether it has to be
STEP_DT = 0.1  # s that one command lasts, should no other follow
RECENTLY = 0.05  # s without a word after which no command is sent anew: the last one runs out
BRIEFLY = 0.1  # s without a word after which a held device is silent
UNLOCKED = 0.5  # s without a word after which one that could not be followed may be clutched anew


def has_arm(device: str, owner: ControlOwner | None) -> bool:
    """Whether the supervisor says that the arm is a device's."""
    return (
        owner is not None
        and owner.state == ControlOwner.STATE_TELEOP
        and owner.reason == f"granted to {device}"
    )


class TeleopDriver:
    """Belongs to a node. ``hold``, ``let_go`` and ``reject`` may be called by its callbacks."""

    def __init__(self, node: Node, device: str, bounds: Bounds) -> None:
        """Connects.

        Args:
            node: That is spun by one thread.
            device: Name of the device, in events and data.
            bounds: What it may ask for.
        """
        self.device = device
        self.problem = ""
        self.rejected = 0
        self.owner: ControlOwner | None = None
        self.heard_at = -math.inf  # s (steady), the supervisor
        self._node = node
        self._clutch = Clutch(bounds)
        self.state: ControllerState | None = None
        self._said: Input | None = None
        self._said_at = 0.0
        self._sent_at = -math.inf  # s (steady), the last command
        self._lets_go = True  # said again and again: nobody has to have heard it the first time
        self._locked = False  # what could not be followed: let go first
        self._epoch = (0, 0)  # of the grant that the clutch is engaged under
        self.sequence = 0
        self._commands = node.create_publisher(TeleopCommand, "teleop/command", RELIABLE)
        self._chunks = node.create_publisher(ActionChunk, "teleop/action_chunk", RELIABLE)
        node.create_subscription(ControlOwner, "control_owner", self._on_owner, NEWEST)
        node.create_subscription(ControllerState, "controller/state", self._on_state, NEWEST)
        node.create_timer(PERIOD, self._repeat, clock=STEADY)

    # --- what the device says ---------------------------------------------------------------------

    def hold(self, said: Input) -> None:
        """Somebody holds the device enabled and asks for this."""
        self._said_at = time.monotonic()
        if not self._locked:
            begins = self._said is None
            self._said, self._lets_go = said, False
            if begins or self._said_at - self._sent_at >= SOONEST:
                self._step()  # at once, rather than when the timer is due

    def let_go(self) -> None:
        """Nobody holds it any more."""
        self._locked, self.problem = False, ""
        self._said, self._lets_go = None, True

    def reject(self, why: str) -> None:
        """It says what cannot be followed: it has to let go before it is followed again."""
        self.rejected += 1
        self._said_at = time.monotonic()
        if not self._locked:
            self._locked, self.problem, self._said = True, why, None
            self._node.get_logger().warning(f"{self.device}: {why}; it has to let go")

    # --- what the system says ---------------------------------------------------------------------

    @property
    def frames(self) -> tuple[str, str] | None:
        """Names of the base and tool frames; None = the controller has not been heard."""
        state = self.state
        return None if state is None else (state.header.frame_id, state.tool_frame)

    @property
    def owns(self) -> bool:
        """Whether the arm is this device's."""
        return has_arm(self.device, self.owner)

    def _on_owner(self, message: ControlOwner) -> None:
        self.owner, self.heard_at = message, time.monotonic()

    def _on_state(self, message: ControllerState) -> None:
        self.state = message
        owner = self.owner
        if not self.owns or owner is None:
            self._epoch = (0, 0)
            return
        epoch = (owner.boot_id, owner.grant)
        if epoch == self._epoch or (message.boot_id, message.grant) != epoch:
            return
        try:
            self._clutch.engage(convert.from_pose(message.reference_pose_tool_in_base))
        except convert.ConversionError as error:
            self.reject(f"the controller's reference cannot be read: {error}")
            return
        self._epoch, self.sequence = epoch, 0

    # --- what is sent -----------------------------------------------------------------------------

    def _repeat(self) -> None:
        if time.monotonic() - self._sent_at >= AGAIN:
            self._step()

    def _step(self) -> None:
        self._sent_at = time.monotonic()
        state = self.state
        if state is None:
            return
        silence = time.monotonic() - self._said_at
        if silence > BRIEFLY:
            self._said = None
        if silence > UNLOCKED:
            self._locked, self.problem = False, ""
        if self._said is None and not self._lets_go:
            # Silent. Once the arm is somebody else's, the claim can be withdrawn for good.
            self._lets_go = not self.owns
            return
        command = TeleopCommand(header=state.header, device=self.device)
        said = self._said
        if said is not None:
            command.enabled = True
            if said.opening is not None:
                command.use_gripper, command.gripper_opening = True, said.opening
            if said.pose is not None:
                command.use_pose, command.pose = True, convert.to_pose(said.pose)
            elif said.twist is not None:
                command.twist = convert.to_twist(said.twist)
        self._commands.publish(command)
        if said is not None and silence < RECENTLY and self.owns and self._epoch != (0, 0):
            self._send(said, state)

    def _send(self, said: Input, state: ControllerState) -> None:
        chunk = ActionChunk(header=state.header, tool_frame=state.tool_frame, step_dt=STEP_DT)
        chunk.policy_id = self.device
        try:
            if said.twist is not None:
                pose = convert.from_pose(state.reference_pose_tool_in_base)
                twist = self._clutch.twist(said, pose[:3, :3])
                chunk.mode, chunk.twists = ActionChunk.MODE_TWIST, [convert.to_twist(twist)]
            else:
                target = self._clutch.pose(said)
                chunk.mode, chunk.poses = ActionChunk.MODE_POSE, convert.to_poses(target[None])
        except (InputError, convert.ConversionError) as error:
            self.reject(str(error))
            return
        if said.opening is not None:
            chunk.gripper_opening = [float(said.opening)]
        self.sequence += 1
        chunk.sequence = self.sequence
        self._chunks.publish(chunk)

    def health(self) -> tuple[bytes, str, Mapping[str, Any]]:
        """For /diagnostics."""
        values = {"device": self.device, "inputs rejected": self.rejected}
        if self.problem:
            return WARN, f"{self.problem}; it has to let go", values
        if self.state is None or self.owner is None:
            return WARN, "waits for the supervisor and the controller", values
        if self.owns:
            return OK, "has the arm", values
        return OK, "is held, but not granted the arm" if self._said is not None else "idle", values
