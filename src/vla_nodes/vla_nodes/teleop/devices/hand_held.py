# SPDX-License-Identifier: Apache-2.0
"""What a gamepad and a SpaceMouse have in common: a button that is held; axes that say how fast.

The button holds the arm (a dead-man switch): who lets go of it gives the arm back, and may move
stick or cap as they like. What the kernel still says of a device whose radio link is cut is that
nothing has changed; so a motion that is asked for and in which nothing changes for a while is none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from vla_nodes.teleop.clutch import Input
from vla_nodes.teleop.devices import Absent, beyond_dead_zone
from vla_nodes.teleop.devices.evdev import EventDevice, EventSource
from vla_sim.typing import FloatArray


@dataclass(frozen=True)
class HandHeldSettings:
    """How deflections become motion.

    Attributes:
        speed: m/s at full deflection.
        turning: rad/s at full deflection.
        dead_zone: Share of a deflection that counts as none.
        in_tool: Along the axes of the tool, not of the base.
        max_opening: Of the gripper, m.
        unchanged_limit: s that a motion may be asked for while nothing changes; 0 = for ever.
    """

    speed: float
    turning: float
    dead_zone: float
    in_tool: bool
    max_opening: float
    unchanged_limit: float


class HandHeld(ABC):
    """A device whose `hold_key` is held; the rest says how fast."""

    kind: str
    hold_key: int

    def __init__(self, settings: HandHeldSettings, source: EventSource) -> None:
        """Takes over a source of such devices."""
        self.problem = ""
        self._settings = settings
        self._source = source
        self._released = False  # seen since it was plugged in, or since it was too quiet
        self._too_quiet = ""
        self._opening: float | None = None

    @abstractmethod
    def deflections(self, device: EventDevice, now: float) -> FloatArray:
        """(6,) forward, left, up and the turns about them, -1 to 1."""

    @abstractmethod
    def gripper(self, device: EventDevice) -> float | None:
        """Share of the gripper's opening that was asked for just now; None = as it is."""

    def poll(self, now: float) -> Input | Absent:
        """What is asked for at a time, s (steady)."""
        device = self._source.poll(now)
        if device is None:
            self.problem, self._released, self._opening = self._source.problem, False, None
            self._too_quiet = ""
            return Absent.LOST
        if self.hold_key not in device.down:
            self.problem, self._released, self._opening = "", True, None
            self._too_quiet = ""
            return Absent.RELEASED
        if not self._released:
            # Plugged in while it was held, or too quiet: nobody has let go, nobody has begun.
            self.problem = self._too_quiet or f"{device.name} is held; it has to be let go"
            return Absent.LOST
        settings = self._settings
        twist = beyond_dead_zone(self.deflections(device, now), settings.dead_zone)
        quiet = now - device.heard_at
        if twist.any() and 0.0 < settings.unchanged_limit < quiet:
            self._released, self._opening = False, None
            self._too_quiet = f"{device.name}: nothing has changed for {quiet:.1f} s; is it on?"
            self.problem = self._too_quiet
            return Absent.LOST
        asked = self.gripper(device)
        if asked is not None:
            self._opening = asked * settings.max_opening
        scale = np.repeat([settings.speed, settings.turning], 3)
        return Input(twist=twist * scale, in_tool=settings.in_tool, opening=self._opening)

    def close(self) -> None:
        """Lets go of the device."""
        self._source.close()
