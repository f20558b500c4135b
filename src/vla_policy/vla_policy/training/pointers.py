# SPDX-License-Identifier: Apache-2.0
"""Which image patch shows which object: targets of an auxiliary loss in training.

A vision tower that starts from nothing finds small objects slowly when all it gets is the error of
a chunk. Told per patch what is where, it needs a few hundred steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np
import numpy.typing as npt

from vla_sim import robots, samples, scene

from ..poses import invert_pose
from ..types import Array

CLASSES = (*scene.COLORS, "bowl", "zone", "named", "goal")
HIDDEN = -1
# The prop that is a sample's reference.
PROPS_OF_TASKS = {"place": "bowl", "relation": "bowl", "push": "zone"}


def patch_indices(
    rows: Sequence[samples.Sample],
    cameras: Sequence[str],
    image_size: int,
    patch_size: int,
) -> npt.NDArray[np.int64]:
    """Patch that holds the centre of every object.

    Args:
        rows: Samples; neighbours of one episode share their camera.
        cameras: Names of the cameras.
        image_size: Pixels.
        patch_size: Pixels.

    Returns:
        (N, cameras, 8) index of the patch, row by row, for ``CLASSES``; ``HIDDEN`` where the
        object is not in the scene or outside the image.
    """
    points = _points(rows)
    robot = robots.get(rows[0].robot)
    model = scene.build_model(robot)
    tool = model.body(robot.tool_frame).id
    result = np.full((len(rows), len(cameras), len(CLASSES)), HIDDEN, dtype=np.int64)
    key: tuple[str, str, str, int] | None = None
    for index, row in enumerate(rows):
        if samples.scene_of(row) != key:
            key = samples.scene_of(row)
            scene.set_look(model, samples.layout_of(row).look)
        for number, name in enumerate(cameras):
            camera = model.camera(name)
            pose = _pose(camera.pos, camera.quat)
            if model.cam_bodyid[camera.id] == tool:
                pose = row.pose_tool_in_base @ pose
            fovy = float(camera.fovy[0])
            pixel = project(points[index], pose, fovy, image_size)
            inside = np.all((pixel >= 0) & (pixel < image_size), axis=1, keepdims=True)
            cell = np.where(inside, pixel, 0.0).astype(np.int64) // patch_size
            flat = cell[:, 1] * (image_size // patch_size) + cell[:, 0]
            result[index, number] = np.where(inside[:, 0], flat, HIDDEN)
    return result


def project(
    points: npt.NDArray[np.float64],
    pose_camera: npt.NDArray[np.float64],
    fovy_deg: float,
    size: int,
) -> Array:
    """Pixels (column, row) of points in a square image; NaN behind the camera.

    Args:
        points: (M, 3) in the frame of ``pose_camera``, m.
        pose_camera: (4, 4); it looks along -z, y is up (OpenGL).
        fovy_deg: Vertical field of view, degrees.
        size: Pixels.
    """
    inverse = invert_pose(pose_camera)
    seen = points @ inverse[:3, :3].T + inverse[:3, 3]
    depth = np.where(seen[:, 2] < -1e-3, -seen[:, 2], np.nan)
    scale = 0.5 * size / np.tan(0.5 * np.deg2rad(fovy_deg))
    columns = 0.5 * size + scale * seen[:, 0] / depth
    lines = 0.5 * size - scale * seen[:, 1] / depth
    return np.stack([columns, lines], axis=1)


def _points(rows: Sequence[samples.Sample]) -> Array:
    points = np.full((len(rows), len(CLASSES), 3), np.nan)
    for index, row in enumerate(rows):
        points[index, : len(scene.COLORS)] = row.color_positions
        points[index, CLASSES.index("named")] = row.target_position
        points[index, CLASSES.index("goal")] = samples.goal_position(row)
        prop = PROPS_OF_TASKS.get(row.task)
        if prop is not None:
            points[index, CLASSES.index(prop)] = row.reference_position
    return points


def _pose(position: npt.NDArray[np.float64], quat_wxyz: npt.NDArray[np.float64]) -> Array:
    pose = np.eye(4)
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, np.asarray(quat_wxyz, dtype=np.float64))
    pose[:3, :3] = rotation.reshape(3, 3)
    pose[:3, 3] = position
    return pose
