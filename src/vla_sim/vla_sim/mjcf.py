# SPDX-License-Identifier: Apache-2.0
"""A laid scene as a file, for simulators that read MJCF, such as mujoco_ros2_control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mujoco

from vla_sim.robots import RobotSpec
from vla_sim.scene import SceneLayout, lay
from vla_sim.scene.model import build_spec, compile_scene

START = "start"


def write_mjcf(
    robot: RobotSpec, layout: SceneLayout, path: Path, *, image_size: int = 96, **options: Any
) -> None:
    """Write a laid scene as MJCF.

    It begins at the keyframe ``START``; each motor is named after its joint. Meshes stay where the
    robot's description has them.

    Args:
        robot: The robot.
        layout: What lies on the table, and how it looks.
        path: File to write.
        image_size: Side of the cameras' images, px.
        **options: Those of :func:`vla_sim.scene.model.build_spec`.
    """
    spec = build_spec(robot, max_image_size=(image_size, image_size), **options)
    model = compile_scene(spec)
    data = mujoco.MjData(model)
    lay(model, data, robot, layout)
    spec.copy_back(model)
    for body in spec.bodies:
        body.gravcomp = model.body_gravcomp[model.body(body.name).id]  # not copied by MuJoCo 4.0
    # Small images are drawn as vla_sim.rendering draws them, which is what policies have seen.
    spec.visual.quality.offsamples = 0
    for light in spec.lights:
        light.castshadow = False
    for camera in spec.cameras:
        camera.resolution = [image_size, image_size]
    spec.add_key(
        name=START, qpos=data.qpos, mpos=data.mocap_pos.ravel(), mquat=data.mocap_quat.ravel()
    )
    path.write_text(spec.to_xml(), encoding="utf-8")
