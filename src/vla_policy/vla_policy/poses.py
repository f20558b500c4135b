# SPDX-License-Identifier: Apache-2.0
"""Homogeneous matrices, and the nine numbers by which the nano π0 knows them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .actions.rotations import encode_rotations, rotation_from_6d
from .types import Array

POSE_DIM = 9
POSE_NAMES = ("x", "y", "z", "r00", "r10", "r20", "r01", "r11", "r21")


def pose_to_vector(pose: npt.NDArray[np.float64]) -> Array:
    """Translation and 6-D rotation (..., 9) of homogeneous matrices (..., 4, 4)."""
    return np.concatenate([pose[..., :3, 3], encode_rotations(pose[..., :3, :3], "6d")], axis=-1)


def vector_to_pose(vector: npt.NDArray[np.float64]) -> Array:
    """Homogeneous matrices (..., 4, 4) of translation and 6-D rotation (..., 9)."""
    return make_pose(vector[..., :3], rotation_from_6d(vector[..., 3:9]))


def make_pose(translation: npt.NDArray[np.float64], rotation: npt.NDArray[np.float64]) -> Array:
    """Homogeneous matrices (..., 4, 4) of translations (..., 3) and rotations (..., 3, 3)."""
    pose = np.zeros((*translation.shape[:-1], 4, 4))
    pose[..., :3, :3] = rotation
    pose[..., :3, 3] = translation
    pose[..., 3, 3] = 1.0
    return pose


def invert_pose(pose: npt.NDArray[np.float64]) -> Array:
    """Inverse of homogeneous matrices (..., 4, 4)."""
    inverse = np.zeros_like(pose)
    transposed = np.swapaxes(pose[..., :3, :3], -1, -2)
    inverse[..., :3, :3] = transposed
    inverse[..., :3, 3] = -(transposed @ pose[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse
