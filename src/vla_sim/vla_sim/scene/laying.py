# SPDX-License-Identifier: Apache-2.0
"""Lay a scene: poses, physics and looks of the compiled model."""

from __future__ import annotations

import mujoco
import numpy as np

from vla_sim.robots import RobotSpec
from vla_sim.scene.common import CUBE_SIZE, FREE_CONTACT, PARK, yaw_quat
from vla_sim.scene.layout import COLORS, SceneLayout, SceneLook
from vla_sim.scene.model import (
    LIGHT_TARGET,
    SCENE_CAMERA_POSITION,
    SCENE_CAMERA_TARGET,
    TABLE_RGB,
    look_at,
    nominal_inertia,
)
from vla_sim.scene.props import BOWL_RGB, FREE_PROPS, PROPS, ZONE_RGB
from vla_sim.typing import FloatArray

# Bodies that can be picked up.
LOOSE = (*(f"cube_{color}" for color in COLORS), *FREE_PROPS)


def lay(model: mujoco.MjModel, data: mujoco.MjData, robot: RobotSpec, layout: SceneLayout) -> None:
    """Reset ``data`` to the start of an episode and give ``model`` its physics and its look.

    Args:
        model: Model from :func:`build_model`; masses, friction, colours, lights and cameras are
            changed.
        data: Its data; everything is reset, the gripper is open.
        robot: The robot of the model.
        layout: What to lay.

    Raises:
        ValueError: A prop is unknown; the message lists the valid ones.
    """
    unknown = [prop.name for prop in layout.props if prop.name not in PROPS]
    if unknown:
        raise ValueError(f"unknown props {unknown}; valid: {', '.join(PROPS)}")
    _set_physics(model, layout)
    mujoco.mj_resetData(model, data)
    for name, value in zip(robot.joint_names, layout.q, strict=True):
        data.joint(name).qpos = value
    for name in robot.finger_joint_names:
        data.joint(name).qpos = 0.5 * robot.max_opening
    standing: dict[str, list[float]] = {
        f"cube_{cube.color}": [cube.x, cube.y, 0.5 * CUBE_SIZE, *yaw_quat(cube.yaw)]
        for cube in layout.cubes
    }
    for prop in layout.props:
        if prop.name in FREE_PROPS:
            standing[prop.name] = [prop.x, prop.y, FREE_PROPS[prop.name], *yaw_quat(prop.yaw)]
        elif prop.joint or prop.speed:
            data.joint(prop.name).qpos = prop.joint
            data.joint(prop.name).qvel = prop.speed
            if prop.name == "turntable":
                data.actuator(prop.name).ctrl = prop.speed
    for index, name in enumerate(LOOSE):
        x, y, z = PARK
        parked = [x, y + 0.2 * index, z, 1.0, 0.0, 0.0, 0.0]
        data.joint(name).qpos = standing.get(name, parked)
        model.body_gravcomp[model.body(name).id] = 0.0 if name in standing else 1.0
    poses = prop_poses(model, layout)
    data.mocap_pos[:], data.mocap_quat[:] = poses[:, :3], poses[:, 3:]
    set_look(model, layout.look)
    mujoco.mj_forward(model, data)


def _set_physics(model: mujoco.MjModel, layout: SceneLayout) -> None:
    """Give what can be picked up its mass and friction, as multiples of the nominal ones."""
    bodies = [model.body(name).id for name in LOOSE]
    friction = np.array(FREE_CONTACT["friction"]) * [layout.friction, 1.0, 1.0]
    for body in bodies:
        first = int(model.body_geomadr[body])
        model.geom_friction[first : first + int(model.body_geomnum[body])] = friction
    wanted = layout.mass * nominal_inertia(model)[bodies]
    if np.array_equal(model.body_mass[bodies], wanted[:, 0]):
        return
    model.body_mass[bodies], model.body_inertia[bodies] = wanted[:, 0], wanted[:, 1:]
    # What the engine derives from masses has to follow, from the state in which the scene was made,
    # or its last bits would tell what lay on the table before. The size of the scene stays.
    extent, center = float(model.stat.extent), model.stat.center.copy()
    mujoco.mj_setConst(model, mujoco.MjData(model))
    model.stat.extent, model.stat.center[:] = extent, center


def prop_poses(model: mujoco.MjModel, layout: SceneLayout) -> FloatArray:
    """Return the poses of all that stands fast, in the order of ``mocap_pos``.

    Returns:
        Shape (N, 7): position in m and quaternion wxyz.
    """
    parked = [*(PARK - [0.0, 0.5, 0.0]), 1.0, 0.0, 0.0, 0.0]
    poses = np.tile(parked, (model.nmocap, 1))
    for prop in layout.props:
        if prop.name not in FREE_PROPS:
            row = model.body(prop.name).mocapid[0]
            poses[row] = [prop.x, prop.y, 0.0, *yaw_quat(prop.yaw)]
    return poses


def set_look(model: mujoco.MjModel, look: SceneLook) -> None:
    """Give ``model`` the colours, lights and scene camera of ``look``."""
    base_colors = [TABLE_RGB, ZONE_RGB, BOWL_RGB, *map(np.array, COLORS.values())]
    materials = ["table", "zone", "bowl", *(f"cube_{color}" for color in COLORS)]
    for material, rgb, offset in zip(materials, base_colors, look.color_offsets, strict=True):
        model.material(material).rgba[:3] = np.clip(rgb + offset, 0.0, 1.0)
    light = model.light("main")
    light.pos[:] = look.light_position
    direction = LIGHT_TARGET - look.light_position
    light.dir[:] = direction / np.linalg.norm(direction)
    light.diffuse[:] = look.light_diffuse * look.light_tint
    model.vis.headlight.ambient[:] = look.light_ambient * look.light_tint
    camera = model.camera("scene")
    position = SCENE_CAMERA_POSITION + look.camera_position_offset
    target = SCENE_CAMERA_TARGET + look.camera_target_offset
    camera.pos[:] = position
    camera.quat[:] = look_at(position, target, np.array([0.0, 0.0, 1.0]))
