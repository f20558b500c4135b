# SPDX-License-Identifier: Apache-2.0
"""A foot pedal, or any button that the kernel shows: what holds a device that has no button."""

from __future__ import annotations

from vla_nodes.teleop.devices import Absent
from vla_nodes.teleop.devices.evdev import EventSource


class Pedal:
    """Held as long as any of its keys is down."""

    def __init__(self, which: str) -> None:
        """Looks for the device that ``which`` names."""
        self._source = EventSource("pedal", lambda device: bool(device.keys), which)
        self._released = False

    @property
    def problem(self) -> str:
        """Why it cannot be read; empty = it can."""
        return self._source.problem

    def poll(self, now: float) -> bool | Absent:
        """Whether it is held at a time, s (steady): True, or why not."""
        device = self._source.poll(now)
        if device is None:
            self._released = False
            return Absent.LOST
        if not device.down:
            self._released = True
            return Absent.RELEASED
        return True if self._released else Absent.LOST

    def close(self) -> None:
        """Lets go of it."""
        self._source.close()
