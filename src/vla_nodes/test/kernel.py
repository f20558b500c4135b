# SPDX-License-Identifier: Apache-2.0
"""The kernel's side of an input device: events through a pipe, ioctls as it answers them."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vla_nodes.teleop.devices import evdev
from vla_nodes.teleop.devices.evdev import Range

EVENT = struct.Struct("@llHHi")
SYN, KEY, REL, ABS = 0, 1, 2, 3
DROPPED = (SYN, 3, 0)
REPORT = (SYN, 0, 0)
STICK = Range(-32768, 32767)
CAP = Range(-350, 350)


@dataclass
class FakeDevice:
    """A device that is plugged in."""

    path: Path
    name: str
    keys: set[int]
    ranges: Mapping[int, Range] = field(default_factory=dict)
    relative: set[int] = field(default_factory=set)
    down: set[int] = field(default_factory=set)
    places: dict[int, int] = field(default_factory=dict)
    grabbed: bool = False
    _writer: int = -1

    def plug(self) -> None:
        os.mkfifo(self.path)
        self._writer = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)

    def unplug(self) -> None:
        self.path.unlink()
        os.close(self._writer)
        self.grabbed = False

    def write(self, data: bytes) -> None:
        os.write(self._writer, data)

    def say(self, *events: tuple[int, int, int]) -> None:
        """One frame; the device is as it says."""
        for kind, code, value in events:
            if kind == KEY:
                (self.down.add if value else self.down.discard)(code)
            elif kind == ABS:
                self.places[code] = value
        self.write(b"".join(EVENT.pack(0, 0, *one) for one in (*events, REPORT)))

    def press(self, *keys: int) -> None:
        self.say(*((KEY, key, 1) for key in keys))

    def release(self, *keys: int) -> None:
        self.say(*((KEY, key, 0) for key in keys))

    def push(self, **axes: int) -> None:
        """Moves axes, by their names in `evdev`."""
        codes = {getattr(evdev, name): value for name, value in axes.items()}
        self.say(
            *((REL if code in self.relative else ABS, code, value) for code, value in codes.items())
        )

    def answer(self, number: int, size: int) -> bytes:
        """Of an ioctl that reads."""
        if number == 0x06:
            return self.name.encode().ljust(size, b"\0")
        if number == 0x18:
            return bits(self.down, size)
        if number == 0x20 + KEY:
            return bits(self.keys, size)
        if number == 0x20 + REL:
            return bits(self.relative, size)
        if number == 0x20 + ABS:
            return bits(set(self.ranges), size)
        axis = number - 0x40
        reach = self.ranges[axis]
        return struct.pack("@6i", self.places.get(axis, 0), reach.low, reach.high, 0, 0, 0)


def bits(codes: set[int], size: int) -> bytes:
    return sum(1 << code for code in codes).to_bytes(size, "little")


class Kernel:
    """A folder of devices."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.devices: list[FakeDevice] = []
        monkeypatch.setattr(evdev.fcntl, "ioctl", self._ioctl)
        monkeypatch.setattr(evdev, "FOLDER", folder)

    def plug(self, name: str, keys: set[int], **more: object) -> FakeDevice:
        path = self.folder / f"event{len(self.devices)}"
        device = FakeDevice(path, name, keys, **more)  # type: ignore[arg-type]
        device.plug()
        self.devices.append(device)
        return device

    def gamepad(self, name: str = "Pad", **more: object) -> FakeDevice:
        axes = (evdev.X, evdev.Y, evdev.RX, evdev.RY)
        cross = dict.fromkeys((evdev.HAT_X, evdev.HAT_Y), Range(-1, 1))
        ranges = dict.fromkeys(axes, STICK) | cross
        keys = {evdev.SOUTH, evdev.EAST, evdev.LEFT_SHOULDER}
        return self.plug(name, keys, ranges=ranges, **more)

    def spacemouse(self, *, relative: bool) -> FakeDevice:
        keys, motion = {evdev.BUTTON_0, evdev.BUTTON_1}, set(evdev.MOTION)
        if relative:
            return self.plug("SpaceMouse Compact", keys, relative=motion)
        return self.plug("SpaceNavigator", keys, ranges=dict.fromkeys(motion, CAP))

    def _ioctl(self, descriptor: int, request: int, argument: object) -> bytes | int:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)"))
        device = next((one for one in self.devices if one.path == path), None)
        if device is None:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        if request == evdev.GRAB:
            if device.grabbed:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            device.grabbed = True
            return 0
        assert request >> 30 == 2
        assert request >> 8 & 0xFF == ord("E")
        return device.answer(request & 0xFF, request >> 16 & 0x3FFF)
