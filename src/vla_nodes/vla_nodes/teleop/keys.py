# SPDX-License-Identifier: Apache-2.0
"""A terminal's keyboard as an operator's device, without ROS.

A terminal tells of keys that are pressed, and repeats those that are kept down after a while; it
never tells of one that is released. So a key moves the tool for a moment, and counts as held a
little longer than the terminal takes to repeat it.
"""

from __future__ import annotations

import contextlib
import os
import select
import termios
import tty
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vla_nodes.teleop.clutch import Input

MOVES = 0.15  # s that the tool moves for one key
HELD = 0.8  # s that a key counts as held
DIRECTIONS = {
    "w": (0, 1.0),
    "s": (0, -1.0),
    "a": (1, 1.0),
    "d": (1, -1.0),
    "r": (2, 1.0),
    "f": (2, -1.0),
    "j": (5, 1.0),
    "l": (5, -1.0),
    "i": (4, 1.0),
    "k": (4, -1.0),
    "u": (3, -1.0),
    "o": (3, 1.0),
}
OPEN, CLOSE, GO_ON, QUIT = "c", "x", " ", "q"
LEGEND = """\
w s  forward, back      i k  pitch     c  open the gripper
a d  left, right        u o  roll      x  close it
r f  up, down           j l  yaw       space  let go: the policy goes on
keys are held to move; without one the arm holds      q  quit"""


@dataclass
class Keyboard:
    """What the keys pressed so far ask for.

    Attributes:
        speed: m/s.
        turning: rad/s.
        max_opening: Of the gripper, m.
    """

    speed: float = 0.1
    turning: float = 0.5
    max_opening: float = 0.08
    _key: str = ""
    _pressed_at: float = -np.inf
    _opening: float | None = None

    def press(self, key: str, now: float) -> bool:
        """Takes a key. Returns whether it is one that holds the arm."""
        if key in (OPEN, CLOSE):
            self._opening = self.max_opening if key == OPEN else 0.0
        elif key not in DIRECTIONS:
            return False
        self._key, self._pressed_at = key, now
        return True

    def let_go(self) -> None:
        """Forgets what was pressed."""
        self._pressed_at, self._opening = -np.inf, None

    def said(self, now: float) -> Input | None:
        """What is asked for now; None = no key is held."""
        if now - self._pressed_at > HELD:
            return None
        twist = np.zeros(6)
        if self._key in DIRECTIONS and now - self._pressed_at <= MOVES:
            axis, sign = DIRECTIONS[self._key]
            twist[axis] = sign * (self.speed if axis < 3 else self.turning)
        return Input(twist=twist, opening=self._opening)


@contextlib.contextmanager
def single_keys(descriptor: int) -> Iterator[None]:
    """A terminal that hands over each key at once, as it was afterwards."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def pressed(descriptor: int) -> str:
    """Keys that wait, oldest first, without waiting for one."""
    if not select.select([descriptor], [], [], 0.0)[0]:
        return ""
    return os.read(descriptor, 64).decode("utf-8", errors="ignore").lower()
