# SPDX-License-Identifier: Apache-2.0
"""A laid scene as a file, for simulators that read MJCF, such as mujoco_ros2_control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from vla_sim._core import PlantConfig
from vla_sim.robots import RobotSpec
from vla_sim.scene import SceneLayout, lay
from vla_sim.scene.model import build_spec, compile_scene

START = "start"


def write_mjcf(
    robot: RobotSpec, layout: SceneLayout, path: Path, *, image_size: int = 96, **options: Any
) -> None:
    """Write a laid scene as MJCF.

    It begins at the keyframe ``START``; each actuator is named after its joint: a motor for each
    joint of the arm, and one for the fingers that takes a position. Meshes stay where the robot's
    description has them.

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
    _take_finger_positions(spec, robot)
    for body in spec.bodies:
        body.gravcomp = model.body_gravcomp[model.body(body.name).id]  # not copied by MuJoCo 4.0
    # Small images are drawn as vla_sim.rendering draws them, which is what policies have seen.
    spec.visual.quality.offsamples = 0
    for light in spec.lights:
        light.castshadow = False
    for camera in spec.cameras:
        camera.resolution = [image_size, image_size]
    finger = robot.finger_joint_names[0]
    held = data.qpos[model.joint(finger).qposadr[0]]
    spec.add_key(
        name=START,
        qpos=data.qpos,
        ctrl=[held if one.name == finger else 0.0 for one in spec.actuators],
        mpos=data.mocap_pos.ravel(),
        mquat=data.mocap_quat.ravel(),
    )
    path.write_text(spec.to_xml(), encoding="utf-8")


def _take_finger_positions(spec: mujoco.MjSpec, robot: RobotSpec) -> None:
    """Have one actuator squeeze with both fingers, as stiff and as strong as the simulation's."""
    first, second = robot.finger_joint_names
    plant = PlantConfig()
    spec.delete(spec.actuator(second))  # the belt takes it along
    drive = spec.actuator(first)
    drive.set_to_position(kp=2.0 * plant.gripper_stiffness, kv=2.0 * plant.gripper_damping)
    drive.forcerange = 2.0 * robot.default_gripper_force * np.array([-1.0, 1.0])
    drive.ctrlrange = [0.0, 0.5 * robot.max_opening]
