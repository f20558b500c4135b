# SPDX-License-Identifier: Apache-2.0
"""What the arm is asked to do: curves given by formulas, and the chunks that sample them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import vla_control
from vla_sim.typing import FloatArray

STEP_DT = 0.05
CHUNK_STEPS = 16
CHUNK_PERIOD = 0.4
LATENCY = 0.15

# Half widths of the figure of eight. Where it crosses itself it is fastest, with equal speed along
# both: sqrt(2) * HALF_WIDTH * omega.
_HALF_WIDTH = 0.2
_HALF_HEIGHT = 0.1
_PEAK_SPEED = 0.35
_RAMP = 1.0


@dataclass(frozen=True)
class Curve:
    """A motion of the tool from rest.

    Attributes:
        pose: Time since the start in s to the pose of the tool in the base, shape (4, 4).
        duration: When the measurement ends, s.
        measured_from: When it begins, s.
    """

    pose: Callable[[float], FloatArray]
    duration: float
    measured_from: float

    def poses(self, times: FloatArray) -> FloatArray:
        """Return the poses at several times, shape (n, 4, 4)."""
        return np.array([self.pose(float(t)) for t in times])


def translated(pose: FloatArray, offset: FloatArray) -> FloatArray:
    """Return the pose, moved in the base frame."""
    out = pose.copy()
    out[:3, 3] += offset
    return out


def turned(pose: FloatArray, axis: FloatArray, angle: float) -> FloatArray:
    """Return the pose, turned on the spot about an axis of the base frame (Rodrigues)."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    rotation = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross
    out = pose.copy()
    out[:3, :3] = rotation @ out[:3, :3]
    return out


def minimum_jerk(fraction: float) -> float:
    """Return the share of the way after a share of the time (Flash and Hogan, 1985)."""
    s = min(max(fraction, 0.0), 1.0)
    return s**3 * (10.0 - s * (15.0 - 6.0 * s))


def figure8(centre: FloatArray, laps: float = 1.0) -> Curve:
    """Return a horizontal figure of eight with a peak speed of 0.35 m/s.

    y = 0.2 sin(phase), x = 0.1 sin(2 phase). The phase gathers speed within a second, without a
    jump of the acceleration, then runs evenly. The measurement begins a second later.

    Args:
        centre: Pose of the tool where the curve crosses itself; the motion starts there.
        laps: How much of the curve is measured; one lap takes 5.1 s.
    """
    omega = _PEAK_SPEED / (np.sqrt(2.0) * _HALF_WIDTH)

    def phase(t: float) -> float:
        if t <= 0.0:
            return 0.0
        s = min(t / _RAMP, 1.0)
        # Integral of the smoothstep 3 s^2 - 2 s^3.
        ramped = _RAMP * (s**3 - 0.5 * s**4)
        return float(omega * (ramped + max(t - _RAMP, 0.0)))

    def pose(t: float) -> FloatArray:
        p = phase(t)
        offset = np.array([_HALF_HEIGHT * np.sin(2.0 * p), _HALF_WIDTH * np.sin(p), 0.0])
        return translated(centre, offset)

    lap = 2.0 * np.pi / omega
    return Curve(pose, duration=2.0 * _RAMP + laps * float(lap), measured_from=2.0 * _RAMP)


def point_to_point(start: FloatArray, offset: FloatArray, travel: float, total: float) -> Curve:
    """Return a straight move with the minimum-jerk profile.

    Args:
        start: Pose at the start.
        offset: Where to, relative to the start, in the base frame, m.
        travel: How long the move takes, s.
        total: How long it is watched, s.
    """

    def pose(t: float) -> FloatArray:
        return translated(start, minimum_jerk(t / travel) * offset)

    return Curve(pose, duration=total, measured_from=0.0)


def approach(
    start: FloatArray, direction: FloatArray, speed: float, distance: float, total: float
) -> Curve:
    """Return a straight move that cruises at a speed and stops after a distance.

    It gathers and loses speed evenly over a fifth of a second each.

    Args:
        start: Pose at the start.
        direction: Unit vector in the base frame.
        speed: m/s.
        distance: m.
        total: How long it is watched, s.
    """
    ramp = 0.2
    cruise = distance / speed - ramp
    if cruise < 0.0:
        raise ValueError(f"a distance of {distance} m is too short for {speed} m/s")

    def travelled(t: float) -> float:
        if t <= 0.0:
            return 0.0
        if t < ramp:
            return 0.5 * speed * t * t / ramp
        if t < ramp + cruise:
            return speed * (t - 0.5 * ramp)
        left = max(2.0 * ramp + cruise - t, 0.0)
        return distance - 0.5 * speed * left * left / ramp

    def pose(t: float) -> FloatArray:
        return translated(start, travelled(t) * direction)

    return Curve(pose, duration=total, measured_from=0.0)


def wipe(start: FloatArray, depth: float, contact_s: float, total: float) -> Curve:
    """Return a way down to a plate and then back and forth on it.

    Args:
        start: Pose above the plate.
        depth: Down to the plate, m.
        contact_s: When the wiping begins, s; it gathers width within the first second.
        total: When it ends, s.
    """
    width, period = 0.08, 2.5

    def pose(t: float) -> FloatArray:
        wiping = max(t - contact_s, 0.0)
        side = width * minimum_jerk(wiping) * np.sin(2.0 * np.pi * wiping / period)
        down = depth * minimum_jerk(2.0 * t / contact_s)
        return translated(start, np.array([0.0, side, -down]))

    return Curve(pose, duration=total, measured_from=contact_s)


def chunk_of(
    curve: Curve,
    start_s: float,
    origin_ns: int,
    description: vla_control.RobotDescription,
    *,
    sequence: int,
    steps: int = CHUNK_STEPS,
    step_dt: float = STEP_DT,
    noise: FloatArray | None = None,
    wrench: FloatArray | None = None,
) -> vla_control.Chunk:
    """Return the chunk that a policy without error would make of an observation.

    Args:
        curve: What it has in mind.
        start_s: When the observation is taken, on the curve's clock.
        origin_ns: Start of the curve on the controller's clock.
        description: For the names of the frames.
        sequence: Number of the chunk.
        steps: Waypoints.
        step_dt: Between them, s.
        noise: Added to the positions, shape (steps, 3), m.
        wrench: What the tool shall exert, shape (6,), N and Nm in the base frame; None = whatever
            the stiffness gives.
    """
    poses = curve.poses(np.array([start_s + step_dt * i for i in range(steps)]))
    if noise is not None:
        poses[:, :3, 3] += noise
    return vla_control.Chunk(
        stamp_ns=origin_ns + round(start_s * 1e9),
        step_dt=step_dt,
        base_frame=description.base_frame,
        tool_frame=description.tool_frame,
        poses=poses,
        sequence=sequence,
        wrenches=None if wrench is None else np.tile(wrench, (steps, 1)),
    )
