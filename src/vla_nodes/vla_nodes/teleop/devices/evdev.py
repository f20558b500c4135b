# SPDX-License-Identifier: Apache-2.0
"""Input devices of the Linux kernel: ``/dev/input/event*``, read without a library.

The format is that of ``linux/input.h``: events of 24 bytes in frames that end with SYN_REPORT, and
ioctls that say what a device has and how it is now. The package ``evdev`` does the same, but comes
as source that needs the kernel's headers and a compiler.
"""

from __future__ import annotations

import fcntl
import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/dev/input")
LOOK_PERIOD = 1.0  # s between looks for a device that is not there
BUTTON_0, BUTTON_1 = 0x100, 0x101  # BTN_0, BTN_1
SOUTH, EAST, LEFT_SHOULDER = 0x130, 0x131, 0x136  # BTN_SOUTH, BTN_EAST, BTN_TL
X, Y, Z, RX, RY, RZ, HAT_X, HAT_Y = 0, 1, 2, 3, 4, 5, 0x10, 0x11  # of ABS_*, to RZ of REL_* too
MOTION = (X, Y, Z, RX, RY, RZ)

_EVENT = struct.Struct("@llHHi")  # time, type, code, value
_SYN, _KEY, _REL, _ABS = 0, 1, 2, 3
_REPORT, _DROPPED = 0, 3
_KEYS, _AXES = 0x300, 0x40
_READ, _WRITE = 2, 1
_AT_ONCE = 64  # events
# A relative axis says how far its cap is pushed while it is, and nothing at rest.
_REST = 0.1  # s after its last event that it counts as at rest
_REACH = 350.0  # counts of a relative axis, or one without a range, at full deflection


def _request(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("E") << 8 | number


GRAB = _request(_WRITE, 0x90, 4)


class DeviceLostError(OSError):
    """The device has been unplugged, or says what is no event."""


@dataclass(frozen=True)
class Range:
    """Of an absolute axis."""

    low: int
    high: int

    def share(self, value: int) -> float:
        """-1 to 1."""
        if self.high <= self.low:
            return min(max(value / _REACH, -1.0), 1.0)
        return min(max(2.0 * (value - self.low) / (self.high - self.low) - 1.0, -1.0), 1.0)


class EventDevice:
    """One open device: which keys are down, and where its axes are.

    Attributes:
        name: As the device says.
        keys: Codes that it has.
        ranges: Of its absolute axes, by code.
        relative: Codes of its relative axes.
        down: Keys that are down.
        pressed: Keys that were pressed since the reading before the last.
        heard_at: s (steady), the last event, or the opening.
    """

    def __init__(
        self,
        descriptor: int,
        name: str,
        keys: set[int],
        ranges: dict[int, Range],
        relative: set[int],
        now: float = 0.0,
    ) -> None:
        """Takes over a descriptor that does not block."""
        self.name = name
        self.keys, self.ranges, self.relative = keys, ranges, relative
        self.down: set[int] = set()
        self.pressed: set[int] = set()
        self.heard_at = now
        self._descriptor = descriptor
        self._places = dict.fromkeys(ranges, 0.0)
        self._pushes: dict[int, tuple[float, float]] = {}  # time and share, by relative axis
        self._frame: list[tuple[int, int, int]] = []
        self._incomplete = False  # events were lost in this frame

    @classmethod
    def open(cls, path: Path, now: float) -> EventDevice:
        """Opens a device and asks it what it has and how it is.

        Raises:
            OSError: It cannot be opened or is no event device.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            name = _ask(descriptor, 0x06, 256).split(b"\0")[0].decode("utf-8", errors="replace")
            keys = _bits(_ask(descriptor, 0x20 + _KEY, _KEYS // 8))
            relative = _bits(_ask(descriptor, 0x20 + _REL, 2)) & set(MOTION)
            axes = _bits(_ask(descriptor, 0x20 + _ABS, _AXES // 8)) & {*MOTION, HAT_X, HAT_Y}
            ranges = {axis: Range(*_axis(descriptor, axis)[1:3]) for axis in axes}
            device = cls(descriptor, name, keys, ranges, relative, now)
            device._look()
        except BaseException:
            os.close(descriptor)
            raise
        return device

    def grab(self) -> None:
        """Keeps its events from everybody else: nothing else is to react to them.

        Raises:
            OSError: Somebody else has done so.
        """
        fcntl.ioctl(self._descriptor, GRAB, 1)

    def close(self) -> None:
        """Lets go of it."""
        os.close(self._descriptor)

    def axis(self, code: int, now: float) -> float:
        """Deflection, -1 to 1; 0 of an axis that it has not."""
        if code in self.relative:
            at, share = self._pushes.get(code, (-math.inf, 0.0))
            return share if now - at <= _REST else 0.0
        return self._places.get(code, 0.0)

    def read(self, now: float) -> None:
        """Takes what has happened since the last reading.

        Raises:
            DeviceLostError: It is gone.
        """
        self.pressed = set()
        while True:
            try:
                data = os.read(self._descriptor, _AT_ONCE * _EVENT.size)
            except BlockingIOError:
                return
            except OSError as error:
                raise DeviceLostError(f"{self.name}: {error.strerror}") from error
            if not data or len(data) % _EVENT.size:
                raise DeviceLostError(f"{self.name}: ended")
            self.heard_at = now
            for _, _, kind, code, value in _EVENT.iter_unpack(data):
                self._take(kind, code, value, now)

    def _take(self, kind: int, code: int, value: int, now: float) -> None:
        if kind != _SYN:
            self._frame.append((kind, code, value))
        elif code == _DROPPED:
            self._incomplete = True
        elif code == _REPORT:
            if self._incomplete:
                self._look()
            else:
                self._apply(now)
            self._frame, self._incomplete = [], False

    def _apply(self, now: float) -> None:
        for kind, code, value in self._frame:
            if kind == _KEY and value == 1:
                self.down.add(code)
                self.pressed.add(code)
            elif kind == _KEY and value == 0:
                self.down.discard(code)
            elif kind == _ABS and code in self.ranges:
                self._places[code] = self.ranges[code].share(value)
            elif kind == _REL and code in self.relative:
                self._pushes[code] = (now, min(max(value / _REACH, -1.0), 1.0))

    def _look(self) -> None:
        """Asks how it is: at the beginning, and after events were lost."""
        try:
            self.down = _bits(_ask(self._descriptor, 0x18, _KEYS // 8))
            for code, reach in self.ranges.items():
                self._places[code] = reach.share(_axis(self._descriptor, code)[0])
        except OSError as error:
            raise DeviceLostError(f"{self.name}: {error.strerror}") from error


def _ask(descriptor: int, number: int, size: int) -> bytes:
    """What an ioctl says; all zero is nothing of the kind."""
    return bytes(fcntl.ioctl(descriptor, _request(_READ, number, size), bytes(size)))


def _axis(descriptor: int, code: int) -> tuple[int, ...]:
    """Value, least and largest of an absolute axis."""
    return struct.unpack("@6i", _ask(descriptor, 0x40 + code, 24))[:3]


def _bits(data: bytes) -> set[int]:
    return {8 * i + bit for i, byte in enumerate(data) for bit in range(8) if byte >> bit & 1}


class EventSource:
    """One device of a kind, wherever and whenever it is plugged in. One thread."""

    def __init__(self, kind: str, fits: Callable[[EventDevice], bool], which: str = "") -> None:
        """Opens nothing yet.

        Args:
            kind: Its name in messages.
            fits: Whether a device is of the kind.
            which: Path of the one meant, or a part of its name; empty = the first that fits.
        """
        self.problem = f"no {kind} is there"
        self._kind, self._fits, self._which = kind, fits, which
        self._device: EventDevice | None = None
        self._looked_at = -math.inf

    def poll(self, now: float) -> EventDevice | None:
        """The device with what it says by now, s (steady); None = it is not there."""
        if self._device is None and now - self._looked_at >= LOOK_PERIOD:
            self._looked_at = now
            self._device = self._find(now)
        if self._device is None:
            return None
        try:
            self._device.read(now)
        except DeviceLostError as error:
            self._device.close()
            self._device, self.problem = None, f"lost: {error}"
            self._looked_at = now
        return self._device

    def close(self) -> None:
        """Lets go of the device."""
        if self._device is not None:
            self._device.close()
            self._device = None

    def _find(self, now: float) -> EventDevice | None:
        named = Path(self._which)
        paths = [named] if self._which.startswith("/") else sorted(FOLDER.glob("event*"))
        denied = 0
        for path in paths:
            try:
                device = EventDevice.open(path, now)
            except OSError as error:
                denied += isinstance(error, PermissionError)
                continue
            if self._fits(device) and (path == named or self._which in device.name):
                try:
                    device.grab()
                except OSError:
                    device.close()
                    self.problem = f"{device.name} ({path}) is in use by another program"
                    return None
                self.problem = ""
                return device
            device.close()
        wanted = f" called {self._which!r}" if self._which else ""
        self.problem = f"no {self._kind}{wanted} is there"
        if denied:
            self.problem += f"; {denied} in {FOLDER} may not be read"
        return None


def has_axes(device: EventDevice, codes: tuple[int, ...]) -> bool:
    """Whether a device has all of these axes."""
    return all(code in device.ranges or code in device.relative for code in codes)
