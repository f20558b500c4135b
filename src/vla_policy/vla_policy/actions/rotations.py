# SPDX-License-Identifier: Apache-2.0
"""Rotations as the numbers that policies return: 6-D, rotation vector, Euler angles, quaternion."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from ..types import Array

SIZES = {"6d": 6, "rotation_vector": 3, "euler": 3, "quat_xyzw": 4}


def check_euler_convention(convention: str | None) -> None:
    """Euler angles mean nothing without their order and whether the axes turn along.

    Raises:
        ValueError: If the convention is not three axes, no two neighbours alike, in one case.
    """
    text = convention or ""
    good = re.fullmatch(r"[xyz]{3}|[XYZ]{3}", text) and text[0] != text[1] != text[2]
    if not good:
        raise ValueError(
            f"euler_convention is {convention!r}; valid: three axes in the order in which they are "
            "turned about, 'xyz' for fixed axes (extrinsic), 'XYZ' for axes that turn along"
        )


def encode_rotations(
    rotation: npt.NDArray[np.float64],
    representation: str,
    convention: str | None = None,
    *,
    continuous: bool = False,
) -> Array:
    """Numbers (..., k) of rotation matrices (..., 3, 3).

    Args:
        rotation: Rotation matrices.
        representation: Name in ``SIZES``.
        convention: Of Euler angles.
        continuous: Whether neighbours along the last axis but one are to be close: of the numbers
            that mean the same rotation, those nearest to the step before are taken, so that a
            motion through half a turn does not jump.
    """
    if representation == "6d":
        return np.concatenate([rotation[..., :, 0], rotation[..., :, 1]], axis=-1)
    turns = Rotation.from_matrix(rotation.reshape(-1, 3, 3))
    if representation == "quat_xyzw":
        values = turns.as_quat(canonical=True)
    elif representation == "rotation_vector":
        values = turns.as_rotvec()
    else:
        values = turns.as_euler(convention)
    values = values.reshape(*rotation.shape[:-2], SIZES[representation])
    if not continuous or values.ndim < 2:
        return np.asarray(values)
    if representation == "quat_xyzw":
        return _continuous_quaternions(values)
    if representation == "rotation_vector":
        return _continuous_rotation_vectors(values)
    return np.asarray(np.unwrap(values, axis=-2))


def decode_rotations(
    values: npt.NDArray[np.float64], representation: str, convention: str | None = None
) -> Array:
    """Rotation matrices (..., 3, 3) of numbers (..., k).

    A network's 6-D numbers and quaternions are not quite orthonormal: they are made so.

    Raises:
        ValueError: If no rotation follows: zero or parallel columns, a zero quaternion.
    """
    if representation == "6d":
        return rotation_from_6d(values)
    flat = values.reshape(-1, SIZES[representation])
    if representation == "quat_xyzw":
        if np.any(np.linalg.norm(flat, axis=-1) < 1e-6):
            raise ValueError("a quaternion is zero: no rotation follows")
        turns = Rotation.from_quat(flat)
    elif representation == "rotation_vector":
        turns = Rotation.from_rotvec(flat)
    else:
        turns = Rotation.from_euler(convention, flat)
    return np.asarray(turns.as_matrix()).reshape(*values.shape[:-1], 3, 3)


def rotation_from_6d(columns: npt.NDArray[np.float64]) -> Array:
    """Gram-Schmidt: rotation matrices (..., 3, 3) from two columns (..., 6).

    Zhou et al., 2019, "On the Continuity of Rotation Representations in Neural Networks".

    Raises:
        ValueError: If the two columns are zero or parallel, so that no rotation follows.
    """
    first, second = columns[..., :3], columns[..., 3:6]
    length = np.linalg.norm(first, axis=-1, keepdims=True)
    x = first / np.where(length > 1e-6, length, np.nan)
    y = second - np.sum(x * second, axis=-1, keepdims=True) * x
    length = np.linalg.norm(y, axis=-1, keepdims=True)
    y = y / np.where(length > 1e-6, length, np.nan)
    rotation: Array = np.stack([x, y, np.cross(x, y)], axis=-1)
    if not np.all(np.isfinite(rotation)):
        raise ValueError("the 6-D rotation is degenerate: its columns are zero or parallel")
    return rotation


def _continuous_quaternions(values: Array) -> Array:
    """Q and -q are the same rotation."""
    away = np.sum(values[..., 1:, :] * values[..., :-1, :], axis=-1) < 0.0
    sign = np.cumprod(np.where(away, -1.0, 1.0), axis=-1)
    values[..., 1:, :] *= sign[..., None]
    return values


def _continuous_rotation_vectors(values: Array) -> Array:
    """A rotation by θ about an axis is also one by θ + 2πk."""
    for step in range(1, values.shape[-2]):
        before, now = values[..., step - 1, :], values[..., step, :]
        angle = np.linalg.norm(now, axis=-1, keepdims=True)
        # No rotation has no axis of its own: that of the step before serves as well.
        length = np.linalg.norm(before, axis=-1, keepdims=True)
        previous_axis = np.divide(before, length, out=np.zeros_like(before), where=length > 0.0)
        axis = np.divide(now, angle, out=previous_axis, where=angle > 1e-9)
        turns = np.round((np.sum(axis * before, axis=-1, keepdims=True) - angle) / (2.0 * np.pi))
        values[..., step, :] = axis * (angle + 2.0 * np.pi * turns)
    return values
