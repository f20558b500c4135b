# SPDX-License-Identifier: Apache-2.0
"""A chunk at other times than its own steps.

An inference that starts between two steps of the chunk before needs what is left of it on its own
grid of times; taking the nearest steps would shift it by up to half a step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation, Slerp

from ..poses import make_pose
from ..types import ActionChunk, Array

_ON_GRID = 1e-3  # steps


def resample(chunk: ActionChunk, start_ns: int) -> tuple[Array, Array]:
    """What is left of a chunk from a time on, one step apart.

    Args:
        chunk: Steps at ``stamp_ns + i · step_dt``.
        start_ns: Not before the chunk's stamp.

    Returns:
        (h, 4, 4) poses or (h, n) joint positions, and (h,) openings, linear in position, joint and
        opening and along the shortest turn between steps; h = 0 if the chunk has run out.
    """
    steps = len(chunk.gripper_opening)
    first = (start_ns - chunk.stamp_ns) * 1e-9 / chunk.step_dt
    if first < -_ON_GRID:
        raise ValueError(f"the chunk begins {-first * chunk.step_dt} s after the time asked for")
    if abs(first - round(first)) < _ON_GRID:
        index = min(round(first), steps)
        return chunk.commanded[index:], chunk.gripper_opening[index:]
    count = max(0, int(np.floor(steps - 1 - first)) + 1)
    if count == 0:
        return chunk.commanded[:0], np.zeros(0)
    return interpolate(chunk, first + np.arange(count, dtype=np.float64))


def interpolate(chunk: ActionChunk, at: npt.NDArray[np.float64]) -> tuple[Array, Array]:
    """References and openings (h,) at places in units of steps, each kept within the chunk.

    Returns:
        (h, 4, 4) poses or (h, n) joint positions, and (h,) openings.
    """
    grid = np.arange(len(chunk.gripper_opening), dtype=np.float64)
    at = np.clip(at, grid[0], grid[-1])
    opening = np.asarray(np.interp(at, grid, chunk.gripper_opening))
    if chunk.is_joint:
        return _interpolate_columns(chunk.commanded, at), opening
    position = _interpolate_columns(chunk.commanded[:, :3, 3], at)
    turns = Slerp(grid, Rotation.from_matrix(chunk.commanded[:, :3, :3]))(at)
    return make_pose(position, turns.as_matrix()), opening


def _interpolate_columns(values: Array, at: Array) -> Array:
    grid = np.arange(len(values), dtype=np.float64)
    return np.stack([np.interp(at, grid, column) for column in values.T], axis=1)
