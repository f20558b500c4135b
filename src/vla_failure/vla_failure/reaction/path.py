# SPDX-License-Identifier: Apache-2.0
"""The way that the tool has come, and the way back."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vla_policy.poses import pose_to_vector, vector_to_pose

from ..episodes import FloatArray

_STEP, _TURN = 0.002, 0.01  # m and rad from one remembered pose to the next
_REMEMBERED = 4000  # poses; 8 m of way
# Whoever moved the arm while nobody looked may have moved it around something.
_GAP, _MOVED = 0.3, 0.01  # s and m
_GRIPPER = 0.01  # m; a policy's openings flicker by less
_PEAK = 1.875  # largest slope of the minimum-jerk profile


@dataclass(frozen=True)
class Waypoint:
    """Where the tool was from a time on.

    Attributes:
        time_ns: ROS time.
        pose: (4, 4) of the tool in the base frame, measured.
        opening: Commanded opening of the gripper, m; None = it had not been commanded.
    """

    time_ns: int
    pose: FloatArray
    opening: float | None


class MeasuredPath:
    """Remembers measured poses, close to each other but not closer than worth it."""

    def __init__(self) -> None:
        self._points: deque[Waypoint] = deque(maxlen=_REMEMBERED)
        self._seen_ns = 0
        self._whole = True

    def clear(self) -> None:
        """Forgets everything."""
        self._points.clear()
        self._whole = True

    @property
    def whole(self) -> bool:
        """Whether the beginning is still known."""
        return self._whole

    def add(self, time_ns: int, pose: FloatArray, opening: float | None) -> None:
        """Notes a measured pose; a gap on which the arm has moved ends what was known before."""
        if self._points:
            last = self._points[-1]
            moved, turned = distance(last.pose, pose), angle(last.pose, pose)
            if (time_ns - self._seen_ns) * 1e-9 > _GAP and moved > _MOVED:
                self._points.clear()
                self._whole = False
            elif moved < _STEP and turned < _TURN and _same(last.opening, opening, 0.001):
                self._seen_ns = time_ns
                return
        self._whole = self._whole and len(self._points) < _REMEMBERED
        self._points.append(Waypoint(time_ns, np.array(pose, float), opening))
        self._seen_ns = time_ns

    def way_back(self, until_ns: int | None) -> tuple[FloatArray, bool]:
        """Poses (n, 4, 4) from the last one back to where the tool was at a time.

        It ends where the gripper was last commanded otherwise: with what the fingers hold now, or
        do not, only the way since then has been travelled.

        Args:
            until_ns: ROS time; None = the beginning.

        Returns:
            The poses, and whether they lead all the way.
        """
        back: list[FloatArray] = []
        for point in reversed(self._points):
            if not _same(point.opening, self._points[-1].opening, _GRIPPER):
                return np.array(back), False
            back.append(point.pose)
            if until_ns is not None and point.time_ns <= until_ns:
                return np.array(back), True
        return np.array(back).reshape(-1, 4, 4), self._whole

    def forget(self, count: int, now_ns: int) -> None:
        """Forgets the last so many poses: the tool has gone back on them."""
        for _ in range(min(count, len(self._points))):
            self._points.pop()
        self._seen_ns = now_ns


def distance(a: FloatArray, b: FloatArray) -> float:
    """Between the positions of two poses, m."""
    return float(np.linalg.norm(a[:3, 3] - b[:3, 3]))


def angle(a: FloatArray, b: FloatArray) -> float:
    """Between the rotations of two poses, rad."""
    chord = float(np.linalg.norm(a[:3, :3] - b[:3, :3]))  # 2 sqrt(2) sin(angle / 2)
    return 2.0 * math.asin(min(1.0, chord / (2.0 * math.sqrt(2.0))))


def length(poses: FloatArray) -> tuple[float, float]:
    """Length of a way, m, and its turning, rad."""
    return (
        sum(distance(a, b) for a, b in pairwise(poses)),
        sum(angle(a, b) for a, b in pairwise(poses)),
    )


def timed(poses: FloatArray, *, speed: float, turning: float, step_dt: float) -> FloatArray:
    """A way from rest to rest: minimum jerk (Flash, Hogan, 1985) along the way that was measured.

    Args:
        poses: (n, 4, 4), n at least 2, close to each other.
        speed: Largest of the tool point, m/s.
        turning: Largest of the tool, rad/s.
        step_dt: Between two poses of the result, s.

    Returns:
        (N, 4, 4), the first and the last as given.
    """
    least = [max(distance(a, b) / speed, angle(a, b) / turning) for a, b in pairwise(poses)]
    reached = np.concatenate([[0.0], np.cumsum(least)])
    count = max(2, math.ceil(_PEAK * reached[-1] / step_dt) + 1)
    u = np.linspace(0.0, 1.0, count)
    progress = reached[-1] * (u**3 * (10.0 - 15.0 * u + 6.0 * u**2))
    vectors = pose_to_vector(poses)
    columns = [np.interp(progress, reached, column) for column in vectors.T]
    return vector_to_pose(np.stack(columns, axis=-1))


def _same(a: float | None, b: float | None, tolerance: float) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= tolerance
