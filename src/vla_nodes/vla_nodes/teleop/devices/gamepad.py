# SPDX-License-Identifier: Apache-2.0
"""A gamepad as the kernel shows it, by its standard codes: Xbox, PlayStation, Switch and alike."""

from __future__ import annotations

import numpy as np

from vla_nodes.teleop.devices import evdev
from vla_nodes.teleop.devices.evdev import EventDevice, EventSource
from vla_nodes.teleop.devices.hand_held import HandHeld, HandHeldSettings
from vla_sim.typing import FloatArray


def is_gamepad(device: EventDevice) -> bool:
    """Whether a device has sticks and the buttons of a gamepad."""
    keys = {evdev.SOUTH, evdev.EAST, evdev.LEFT_SHOULDER}
    return keys <= device.keys and {evdev.X, evdev.Y} <= device.ranges.keys()


class Gamepad(HandHeld):
    """The left shoulder button holds the arm.

    Left stick: forward and left. Right stick: up, and turns about the vertical. The cross: the
    other two turns. B (circle) opens the gripper, A (cross) closes it.
    """

    kind = "gamepad"
    hold_key = evdev.LEFT_SHOULDER

    def __init__(self, settings: HandHeldSettings, which: str = "") -> None:
        """Looks for the first gamepad, or for the one that ``which`` names."""
        super().__init__(settings, EventSource(self.kind, is_gamepad, which))

    def deflections(self, device: EventDevice, now: float) -> FloatArray:
        """The kernel counts to the right and towards the user."""
        # Without analogue triggers of its own a device's right stick may be on Z and RZ.
        both = {evdev.RX, evdev.RY} <= device.ranges.keys()
        right = (evdev.RX, evdev.RY) if both else (evdev.Z, evdev.RZ)
        codes = (evdev.Y, evdev.X, right[1], evdev.HAT_X, evdev.HAT_Y, right[0])
        signs = np.array([-1.0, -1.0, -1.0, 1.0, -1.0, -1.0])
        return signs * np.array([device.axis(code, now) for code in codes])

    def gripper(self, device: EventDevice) -> float | None:
        """Closing goes first: both at once do not drop anything."""
        if evdev.SOUTH in device.pressed:
            return 0.0
        return 1.0 if evdev.EAST in device.pressed else None
