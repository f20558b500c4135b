# SPDX-License-Identifier: Apache-2.0
"""Short corrections in words: bounded motions of the tool along the axes of the base, and its pace.

As in RT-H (Belkhale et al., 2024) and "Yell At Your Robot" (Shi et al., 2024), somebody who watches
says what is wrong while the policy works. Here a correction moves the arm by itself, at once, and
then the policy goes on; or the policy goes on slower; or the arm stops. What is not understood does
nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from vla_nodes.supervision.policy_time import SLOWEST
from vla_nodes.teleop.clutch import Input, InputError
from vla_sim.typing import FloatArray

SPEED, TURNING = 0.05, 0.4  # m/s, rad/s
STEP, TURN = 0.03, math.radians(15.0)  # of a correction that names no amount
LARGEST, LARGEST_TURN = 0.1, math.radians(45.0)
LITTLE, MUCH = 0.4, 2.0  # times as far
PATIENCE = 3.0  # times as long as the motion takes, after which it is given up
WORDS = {
    "left": (1, 1.0),
    "right": (1, -1.0),
    "forward": (0, 1.0),
    "forwards": (0, 1.0),
    "ahead": (0, 1.0),
    "away": (0, 1.0),
    "back": (0, -1.0),
    "backward": (0, -1.0),
    "backwards": (0, -1.0),
    "closer": (0, -1.0),
    "up": (2, 1.0),
    "higher": (2, 1.0),
    "raise": (2, 1.0),
    "down": (2, -1.0),
    "lower": (2, -1.0),
}
TURNS = {"turn", "rotate", "twist"}
LESS = {"bit", "little", "slightly", "touch"}
MORE = {"lot", "much", "far", "further"}
GRIPPER = {"open": 1.0, "release": 1.0, "close": 0.0, "grip": 0.0, "grasp": 0.0}
UNITS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}
SLOWER = 0.7  # times the speed
LITTLE_SLOWER, MUCH_SLOWER = 0.85, 0.5
PACES = {"slower": 1.0, "slow": 1.0, "slowly": 1.0, "faster": -1.0, "quicker": -1.0}
FULL = "full speed"
PHRASES = {"slow down": "slower", "speed up": "faster", "normal speed": FULL}  # no directions
STOPS = {"stop", "halt"}
AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(mm|cm|m|degrees|degree|deg|°)(?![a-z])")


@dataclass(frozen=True)
class Correction:
    """A motion that ends by itself.

    Attributes:
        axis: 0 to 2 along x, y, z of the base, 3 to 5 about them; None = the arm stays.
        amount: m or rad, signed.
        opening: Share of the gripper's full opening; None = as it is.
    """

    axis: int | None = None
    amount: float = 0.0
    opening: float | None = None

    @property
    def speed(self) -> float:
        """m/s or rad/s."""
        return SPEED if self.axis is None or self.axis < 3 else TURNING

    @property
    def time(self) -> float:
        """How long it may take, s."""
        return 1.0 + PATIENCE * abs(self.amount) / self.speed

    def said(self, max_opening: float) -> Input:
        """What a device would say for it; ``max_opening`` in m."""
        twist: FloatArray = np.zeros(6)
        if self.axis is not None:
            twist[self.axis] = math.copysign(self.speed, self.amount)
        opening = None if self.opening is None else self.opening * max_opening
        return Input(twist=twist, opening=opening)

    def done(self, moved: FloatArray) -> bool:
        """Whether the tool has ``moved`` (6,) as far, m and rotation vector in rad."""
        if self.axis is None:
            return False  # the gripper says nothing; its time decides
        return bool(math.copysign(1.0, self.amount) * moved[self.axis] >= abs(self.amount))


@dataclass(frozen=True)
class Pace:
    """A change of the speed at which the policy's motion runs.

    Attributes:
        factor: Times the present speed; infinite = full speed.
    """

    factor: float

    def of(self, speed: float) -> float:
        """The speed asked for, as a share of the policy's own."""
        return min(max(self.factor * speed, SLOWEST), 1.0)


@dataclass(frozen=True)
class Stop:
    """The arm is to stop."""


def understand(text: str) -> Correction | Pace | Stop:
    """What a correction asks for.

    Raises:
        InputError: It is not understood, or asks for two things at once.
    """
    said = text.lower()
    for phrase, meant in PHRASES.items():
        said = said.replace(phrase, meant)
    words = set(re.findall(r"[a-z]+", said))
    if words & STOPS:
        return Stop()  # whatever else is said
    paces = {PACES[word] for word in words if word in PACES}
    if FULL in said:
        paces.add(math.inf)
    directions = {WORDS[word] for word in words if word in WORDS}
    openings = {GRIPPER[word] for word in words if word in GRIPPER}
    if len(directions) + len(openings) + len(paces) != 1:
        raise InputError(
            f"{text!r} is no correction; valid: one direction ({', '.join(WORDS)}), with 'a bit', "
            f"'a lot' or '3 cm', 'turn' left or right, {', '.join(GRIPPER)}, slower, faster, "
            f"{FULL}, or stop"
        )
    if paces:
        factor = LITTLE_SLOWER if words & LESS else MUCH_SLOWER if words & MORE else SLOWER
        sign = paces.pop()
        return Pace(sign if math.isinf(sign) else factor**sign)
    if openings:
        return Correction(opening=openings.pop())
    axis, sign = directions.pop()
    turns = bool(words & TURNS)
    if turns and axis != 1:
        raise InputError(f"{text!r}: the tool turns left or right")
    least, most = (TURN, LARGEST_TURN) if turns else (STEP, LARGEST)
    amount = least * (LITTLE if words & LESS else MUCH if words & MORE else 1.0)
    named = AMOUNT.search(said)
    if named is not None:
        angular = named[2] not in UNITS
        if angular is not turns:
            raise InputError(f"{text!r}: turns are in degrees, the rest is in mm, cm or m")
        amount = float(named[1]) * (math.radians(1.0) if angular else UNITS[named[2]])
    if not 0.0 < amount <= most + 1e-9:
        limit = f"{math.degrees(most):.0f} degrees" if turns else f"{100 * most:.0f} cm"
        raise InputError(f"{text!r}: at most {limit} at once")
    return Correction(axis=5 if turns else axis, amount=sign * amount)
