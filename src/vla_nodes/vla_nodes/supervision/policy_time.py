# SPDX-License-Identifier: Apache-2.0
"""The time that a policy's motion has, which an operator may slow down.

A policy that is to move at half its speed gets two seconds of ROS time for what it meant for one.
Where its steps are due, how many of them have passed, when it infers next and how long its silence
may last are all questions of this time; at full speed it passes as ROS time does. No rclpy.
"""

from __future__ import annotations

import math
from collections import deque

SLOWEST = 0.25
_CHANGES = 32  # remembered; what is asked for lies a chunk or two back


def valid_speed(value: float) -> float:
    """The speed nearest to what was heard; the slowest where that is no number."""
    return min(max(value, SLOWEST), 1.0) if math.isfinite(value) else SLOWEST


class PolicyTime:
    """Passes at ``speed`` times ROS time, since the last change. One thread."""

    def __init__(self) -> None:
        """Equal to ROS time."""
        # ROS time of a change, policy time at it, ns, and the speed from then on.
        self._changes: deque[tuple[int, int, float]] = deque([(0, 0, 1.0)], maxlen=_CHANGES)

    @property
    def speed(self) -> float:
        """Share of the policy's own speed."""
        return self._changes[-1][2]

    def set_speed(self, speed: float, now_ns: int) -> None:
        """Changes the speed at a ROS time, ns.

        Raises:
            ValueError: The speed is not valid.
        """
        if not (math.isfinite(speed) and SLOWEST <= speed <= 1.0):
            raise ValueError(f"the speed is {speed:g}; valid: {SLOWEST} to 1")
        if speed == self.speed:
            return
        at_ns = self.of(now_ns)
        while len(self._changes) > 1 and self._changes[-1][0] >= now_ns:
            self._changes.pop()  # a clock that has jumped back
        self._changes.append((now_ns, at_ns, speed))

    def of(self, ros_ns: int) -> int:
        """Policy time of a ROS time, ns; the future passes as the present does."""
        began = next((one for one in reversed(self._changes) if one[0] <= ros_ns), self._changes[0])
        return began[1] + _scaled(ros_ns - began[0], began[2])

    def to_ros(self, policy_ns: int) -> int:
        """ROS time of a policy time, ns."""
        began = next(
            (one for one in reversed(self._changes) if one[1] <= policy_ns), self._changes[0]
        )
        return began[0] + _scaled(policy_ns - began[1], 1.0 / began[2])


def _scaled(span_ns: int, factor: float) -> int:
    # Whole numbers at full speed: nanoseconds since 1970 are too many for a float.
    return span_ns if factor == 1.0 else round(span_ns * factor)
