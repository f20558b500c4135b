# SPDX-License-Identifier: Apache-2.0
"""Jerk-limited, synchronised moves to a joint target, as chunks of joint positions.

Planned outside of the real-time loop, with ruckig (Berscheid and Kröger, "Jerk-limited Real-time
Trajectory Generation with Arbitrary Target States", RSS 2021). The controller follows the chunks
where ``chunk.accept_joint_positions`` is set. Nothing here knows what stands around the arm: the
path is not checked for collisions: whoever asks for a move has looked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import ruckig
from numpy.typing import ArrayLike, NDArray

from vla_control._core import MAX_STEPS, RobotModel

Floats = NDArray[np.float64]

#: Share of the limits that a move uses unless told otherwise: velocity times this, acceleration
#: times its square, jerk times its cube, as if the fastest move were played five times slower.
SLOW = 0.2
#: Largest speed of the tool unless told otherwise, m/s: the one of ISO 10218-1's reduced speed.
TOOL_SPEED = 0.25
#: Where a maker publishes no acceleration, full speed is reached in so many s; where none publishes
#: a jerk, full acceleration.
RISE_TO_SPEED, RISE_TO_ACCELERATION = 0.25, 0.05

STEP_DT = 0.05  # s
#: A further chunk begins so many steps before the end of the one before, and is sent when half of
#: them are past: both say the same there, and the blend from one to the other has nothing to do.
OVERLAP = 16
MARGIN = 1e-6  # rad
SPEED_ROUNDS = 8


class JointMoveError(ValueError):
    """A joint move cannot be made; the message names the value and the valid range."""


@dataclass(frozen=True)
class JointLimits:
    """Per joint: rad/s, rad/s^2, rad/s^3."""

    velocity: Floats
    acceleration: Floats
    jerk: Floats

    @classmethod
    def published(
        cls, velocity: ArrayLike, acceleration: ArrayLike | None, jerk: ArrayLike | None
    ) -> JointLimits:
        """What a maker publishes; None = none is published, and a slow rise is taken."""
        v = np.asarray(velocity, dtype=np.float64)
        a = v / RISE_TO_SPEED if acceleration is None else np.asarray(acceleration, np.float64)
        j = a / RISE_TO_ACCELERATION if jerk is None else np.asarray(jerk, dtype=np.float64)
        return cls(v, a, j)

    def slowed(self, scaling: float) -> JointLimits:
        """Limits of the same motion when it is played ``1 / scaling`` times slower."""
        return JointLimits(
            scaling * self.velocity, scaling**2 * self.acceleration, scaling**3 * self.jerk
        )


@dataclass(frozen=True)
class JointChunk:
    """A part of a move. Times are s since the start of the move.

    Attributes:
        begin: Time of its first step: the stamp of the chunk.
        send_at: When it is to be sent.
        values: Joint positions, (steps, joints), rad.
    """

    begin: float
    send_at: float
    values: Floats


@dataclass(frozen=True)
class JointMove:
    """A planned move.

    Attributes:
        joint_names: Columns of ``positions``.
        positions: (steps, joints), rad, ``step_dt`` apart, from the start to the target.
        step_dt: s.
        duration: s until the target is reached.
        tool_speed: Largest speed of the tool on the way, m/s.
    """

    joint_names: tuple[str, ...]
    positions: Floats
    step_dt: float
    duration: float
    tool_speed: float

    def chunks(self) -> list[JointChunk]:
        """The move in chunks of at most ``MAX_STEPS`` steps, in the order in which to send them."""
        out = []
        for first in range(0, max(1, len(self.positions) - OVERLAP), MAX_STEPS - OVERLAP):
            begin = first * self.step_dt
            send_at = begin + (0.5 * OVERLAP * self.step_dt if first else 0.0)
            out.append(JointChunk(begin, send_at, self.positions[first : first + MAX_STEPS]))
        return out


def present_reference(
    model: RobotModel, q: ArrayLike, pose: ArrayLike, twist: ArrayLike
) -> tuple[Floats, Floats]:
    """Joint positions and velocities of a tool reference, near the measured joints.

    Args:
        model: The arm.
        q: (n,) measured, rad.
        pose: (4, 4) reference in force, tool in base.
        twist: (6,) its velocity, m/s and rad/s, base axes.

    Returns:
        (n,) rad and (n,) rad/s; the measured joints where the reference is out of reach.
    """
    joints, reached = model.inverse_kinematics(pose, q)
    if not reached:
        joints = np.asarray(q, dtype=np.float64)
    inverse = np.linalg.pinv(model.jacobian(joints), rcond=1e-2)
    velocity = np.asarray(inverse @ np.asarray(twist), dtype=np.float64)
    return joints, velocity


def joint_move(
    model: RobotModel,
    limits: JointLimits,
    q: ArrayLike,
    target: Mapping[str, float],
    *,
    dq: ArrayLike | None = None,
    scaling: float = SLOW,
    tool_speed: float = TOOL_SPEED,
    step_dt: float = STEP_DT,
) -> JointMove:
    """Plans a move.

    Args:
        model: The arm: joint names, position limits, kinematics.
        limits: What the maker publishes.
        q: (n,) where the reference is, rad.
        target: Joint name to position, rad; joints that are not named stay.
        dq: (n,) how it moves, rad/s; None = it rests.
        scaling: Share of the limits to use, see ``SLOW``; within (0, 1].
        tool_speed: Largest speed of the tool, m/s. Where the arm moves faster at the start, it
            brakes.
        step_dt: s between steps.

    Raises:
        JointMoveError: Naming the value and what is valid.
    """
    names, n = tuple(model.joint_names), model.n
    for name, value, low, high in (
        ("scaling", scaling, 0.0, 1.0),
        ("tool_speed", tool_speed, 0.0, math.inf),
        ("step_dt", step_dt, 0.0, 0.2),
    ):
        if not low < value <= high:
            raise JointMoveError(f"{name} is {value}; valid range: ({low:g}, {high:g}]")
    start = _finite("q", q, n)
    speed = np.zeros(n) if dq is None else _finite("dq", dq, n)
    for name, rows in vars(limits).items():
        if _finite(name, rows, n).min() <= 0.0:
            raise JointMoveError(f"the limits of {name} are {np.asarray(rows)}; they must be > 0")
    goal = _goal(model, names, start, target)
    for _ in range(SPEED_ROUNDS):
        trajectory = _plan(limits.slowed(scaling), start, speed, goal)
        positions, fastest, allowed = _sample(model, trajectory, step_dt, tool_speed)
        if fastest <= allowed:
            _check_range(model, names, positions)
            return JointMove(names, positions, step_dt, trajectory.duration, fastest)
        scaling *= 0.98 * allowed / fastest
    raise JointMoveError(
        f"the tool would move at {fastest:.3f} m/s; valid range: (0, {allowed:g}] m/s"
    )


def _finite(name: str, values: ArrayLike, n: int) -> Floats:
    out = np.asarray(values, dtype=np.float64)
    if out.shape != (n,):
        raise JointMoveError(f"{name} has the shape {out.shape}; valid: ({n},)")
    if not np.isfinite(out).all():
        raise JointMoveError(f"{name} is {out}; every value must be finite")
    return out


def _goal(
    model: RobotModel, names: Sequence[str], start: Floats, target: Mapping[str, float]
) -> Floats:
    unknown = sorted(set(target) - set(names))
    if unknown:
        raise JointMoveError(f"no joint {', '.join(unknown)}; joints: {', '.join(names)}")
    goal = start.copy()
    for i, name in enumerate(names):
        goal[i] = target.get(name, start[i])
    _check_range(model, names, goal[None])
    return goal


def _check_range(model: RobotModel, names: Sequence[str], positions: Floats) -> None:
    lower, upper = model.position_lower, model.position_upper
    # Written so that NaN is out of range.
    inside = (positions >= lower - MARGIN) & (positions <= upper + MARGIN)
    if not inside.all():
        row, i = np.argwhere(~inside)[0]
        raise JointMoveError(
            f"{names[i]} would be at {positions[row, i]:.4f} rad; "
            f"valid range: [{lower[i]:.4f}, {upper[i]:.4f}]"
        )


def _plan(limits: JointLimits, start: Floats, speed: Floats, goal: Floats) -> ruckig.Trajectory:
    n = len(start)
    order = ruckig.InputParameter(n)
    order.current_position, order.current_velocity = start.tolist(), speed.tolist()
    order.current_acceleration = [0.0] * n
    order.target_position = goal.tolist()
    order.target_velocity, order.target_acceleration = [0.0] * n, [0.0] * n
    order.max_velocity = limits.velocity.tolist()
    order.max_acceleration = limits.acceleration.tolist()
    order.max_jerk = limits.jerk.tolist()
    trajectory = ruckig.Trajectory(n)
    result = ruckig.Ruckig(n).calculate(order, trajectory)
    if result not in (ruckig.Result.Working, ruckig.Result.Finished):
        raise JointMoveError(
            f"ruckig found no way from {start} at {speed} rad/s to {goal}: {result}"
        )
    return trajectory


def _sample(
    model: RobotModel, trajectory: ruckig.Trajectory, step_dt: float, tool_speed: float
) -> tuple[Floats, float, float]:
    """Positions, the largest tool speed, m/s, and the one that is allowed: the start's at least."""
    steps = max(2, math.ceil(trajectory.duration / step_dt - 1e-9) + 1)
    positions, speeds = [], []
    for i in range(steps):
        q, dq, _ = trajectory.at_time(min(i * step_dt, trajectory.duration))
        positions.append(q)
        speeds.append(float(np.linalg.norm(model.jacobian(q)[:3] @ dq)))
    return np.array(positions), max(speeds), max(tool_speed, 1.05 * speeds[0])
