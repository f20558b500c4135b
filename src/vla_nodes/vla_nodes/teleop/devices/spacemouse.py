# SPDX-License-Identifier: Apache-2.0
"""A 3Dconnexion SpaceMouse: a cap that is pushed and turned along and about three axes.

The kernel shows some with absolute axes and some with relative ones, of up to 350 counts either
way, to the right, towards the user and down; all three turns follow the right-hand rule.
"""

from __future__ import annotations

import numpy as np

from vla_nodes.teleop.devices import evdev
from vla_nodes.teleop.devices.evdev import EventDevice, EventSource
from vla_nodes.teleop.devices.hand_held import HandHeld, HandHeldSettings
from vla_sim.typing import FloatArray


def is_spacemouse(device: EventDevice) -> bool:
    """Whether a device has six axes and the buttons of a SpaceMouse."""
    keys = {evdev.BUTTON_0, evdev.BUTTON_1}
    return keys <= device.keys and evdev.has_axes(device, evdev.MOTION)


class SpaceMouse(HandHeld):
    """The left button holds the arm; the right one closes the gripper, and opens it again."""

    kind = "SpaceMouse"
    hold_key = evdev.BUTTON_0

    def __init__(self, settings: HandHeldSettings, which: str = "") -> None:
        """Looks for the first SpaceMouse, or for the one that ``which`` names."""
        super().__init__(settings, EventSource(self.kind, is_spacemouse, which))
        self._closed = False

    def deflections(self, device: EventDevice, now: float) -> FloatArray:
        """Right, back, down becomes forward, left, up: the same rotation for pushes and turns."""
        right, back, down, about_right, about_back, about_down = (
            device.axis(code, now) for code in evdev.MOTION
        )
        return -np.array([back, right, down, about_back, about_right, about_down])

    def gripper(self, device: EventDevice) -> float | None:
        """What is not known yet is not dropped: the first press closes."""
        if evdev.BUTTON_1 not in device.pressed:
            return None
        self._closed = not self._closed
        return 0.0 if self._closed else 1.0
