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
        (h, 4, 4) poses and (h,) openings, linear in position and opening and along the shortest
        turn between steps; h = 0 if the chunk has run out.
    """
    steps = len(chunk.gripper_opening)
    first = (start_ns - chunk.stamp_ns) * 1e-9 / chunk.step_dt
    if first < -_ON_GRID:
        raise ValueError(f"the chunk begins {-first * chunk.step_dt} s after the time asked for")
    if abs(first - round(first)) < _ON_GRID:
        index = min(round(first), steps)
        return chunk.poses_tool_in_base[index:], chunk.gripper_opening[index:]
    count = max(0, int(np.floor(steps - 1 - first)) + 1)
    if count == 0:
        return np.zeros((0, 4, 4)), np.zeros(0)
    return interpolate(chunk, first + np.arange(count, dtype=np.float64))


def interpolate(chunk: ActionChunk, at: npt.NDArray[np.float64]) -> tuple[Array, Array]:
    """Poses (h, 4, 4) and openings (h,) at places in units of steps, each within the chunk."""
    grid = np.arange(len(chunk.gripper_opening), dtype=np.float64)
    at = np.clip(at, grid[0], grid[-1])
    poses = chunk.poses_tool_in_base
    position = np.stack([np.interp(at, grid, poses[:, i, 3]) for i in range(3)], axis=1)
    turns = Slerp(grid, Rotation.from_matrix(poses[:, :3, :3]))(at)
    opening = np.interp(at, grid, chunk.gripper_opening)
    return make_pose(position, turns.as_matrix()), np.asarray(opening)
