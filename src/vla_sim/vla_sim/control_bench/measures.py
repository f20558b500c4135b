# SPDX-License-Identifier: Apache-2.0
"""Errors, lag and jerk from the record of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_sim.control_bench.curves import Curve
from vla_sim.typing import FloatArray


@dataclass(frozen=True)
class Record:
    """What was recorded of a run, one row per cycle.

    Attributes:
        columns: Name of a group of columns to its values, shape (cycles, width); see
            ``vla_sim._core.Trace``.
        period: s.
        origin: Time at which the curve started, s.
        rejected: Chunks that the controller did not take.
    """

    columns: dict[str, FloatArray]
    period: float
    origin: float
    rejected: int

    @property
    def time(self) -> FloatArray:
        """Time on the curve's clock, s."""
        return self.columns["time"][:, 0] - self.origin

    @property
    def position(self) -> FloatArray:
        """Position of the tool, m."""
        return self.columns["position"]

    @property
    def rotation(self) -> FloatArray:
        """Rotation of the tool, shape (cycles, 3, 3)."""
        return self.columns["rotation"].reshape(-1, 3, 3)

    def within(self, begin: float, end: float) -> slice:
        """Return the rows with begin <= time < end."""
        first, last = np.searchsorted(self.time, [begin - 1e-9, end - 1e-9])
        return slice(int(first), int(last))


@dataclass(frozen=True)
class Tracking:
    """How well a curve was followed.

    Attributes:
        rms_mm: Root mean square of the distance.
        rotation_rms_deg: Root mean square of the angle.
        lag_ms: Shift of time that explains the record best.
        torque_rate_rms: Root mean square over joints and time, Nm/s.
    """

    rms_mm: float
    rotation_rms_deg: float
    lag_ms: float
    torque_rate_rms: float


def position_error(record: Record, curve: Curve) -> FloatArray:
    """Return the distance from the curve at each row, m."""
    wanted = np.array([curve.pose(float(t))[:3, 3] for t in record.time])
    return np.asarray(np.linalg.norm(record.position - wanted, axis=1))


def rotation_angle(rotation: FloatArray, wanted: FloatArray) -> FloatArray:
    """Return the angle between rotations, rad; exact also for small ones."""
    difference = np.swapaxes(wanted, -1, -2) @ rotation
    # |R - I|_F = 2 sqrt(2) sin(angle / 2)
    chord = np.linalg.norm(difference - np.eye(3), axis=(-2, -1))
    return np.asarray(2.0 * np.arcsin(np.clip(chord / np.sqrt(8.0), 0.0, 1.0)))


def tracking(record: Record, curve: Curve) -> Tracking:
    """Measure a run from ``curve.measured_from`` to its end."""
    rows = record.within(curve.measured_from, curve.duration)
    times = record.time[rows]
    wanted = curve.poses(times)
    error = np.linalg.norm(record.position[rows] - wanted[:, :3, 3], axis=1)
    angle = rotation_angle(record.rotation[rows], wanted[:, :3, :3])
    rate = np.diff(record.columns["tau"][rows], axis=0) / record.period
    return Tracking(
        rms_mm=1e3 * _rms(error),
        rotation_rms_deg=float(np.degrees(_rms(angle))),
        lag_ms=1e3 * lag(times, record.position[rows], curve),
        torque_rate_rms=_rms(rate),
    )


def lag(times: FloatArray, positions: FloatArray, curve: Curve) -> float:
    """Return the shift that fits the curve to the record with least squares, s.

    Gauss-Newton on sum |p(t) - c(t - lag)|^2, from zero; lags of either sign are found.
    """
    shift, step = 0.0, 1e-3
    times, positions = times[::5], positions[::5]
    for _ in range(20):
        here = _points(curve, times - shift)
        slope = (_points(curve, times - shift + step) - _points(curve, times - shift - step)) / (
            2.0 * step
        )
        change = -np.sum((positions - here) * slope) / np.sum(slope * slope)
        shift += float(np.clip(change, -0.05, 0.05))
        if abs(change) < 1e-6:
            break
    return shift


def joint_jerk_ratio(record: Record, rows: slice, limit: FloatArray) -> float:
    """Return the largest joint jerk as a multiple of the limits (rad/s^3)."""
    jerk = np.diff(record.columns["dq"][rows], n=2, axis=0) / record.period**2
    return float(np.max(np.abs(jerk) / limit))


def torque_rate_ratio(record: Record, rows: slice, limit: FloatArray) -> float:
    """Return the largest rate of the commanded torque as a multiple of the limits (Nm/s)."""
    rate = np.diff(record.columns["tau"][rows], axis=0) / record.period
    return float(np.max(np.abs(rate) / limit))


def _points(curve: Curve, times: FloatArray) -> FloatArray:
    return np.array([curve.pose(float(t))[:3, 3] for t in times])


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
