# SPDX-License-Identifier: Apache-2.0
"""The compiled model: a robot at its table, cubes, props, lights and cameras."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from vla_sim.robots import RobotSpec
from vla_sim.scene.common import (
    CUBE_SIZE,
    ENVIRONMENT,
    FREE_CONTACT,
    PARK,
    ROBOT,
    TABLE_CENTER,
    TABLE_SIZE,
)
from vla_sim.scene.layout import COLORS
from vla_sim.scene.props import add_props
from vla_sim.typing import FloatArray

CAMERAS = ("scene", "wrist")
# Shows the whole robot, for pictures; no policy sees it.
OVERVIEW = "overview"

SCENE_CAMERA_POSITION = np.array([1.30, 0.0, 0.86])
SCENE_CAMERA_TARGET = np.array([0.525, 0.0, 0.05])
_SCENE_CAMERA_FOVY = 32.5
_WRIST_CAMERA_FOVY = 75.0
_OVERVIEW_POSITION = np.array([1.45, -0.95, 0.80])
_OVERVIEW_TARGET = np.array([0.28, 0.02, 0.22])
LIGHT_TARGET = np.array([0.5, 0.0, 0.0])
TABLE_RGB = np.array([0.80, 0.74, 0.66])


def build_spec(
    robot: RobotSpec,
    *,
    gravity_compensation: bool = True,
    coulomb_friction: float = 0.2,
    viscous_friction: float = 0.5,
    timestep: float = 1e-3,
    shadow_size: int = 512,
    max_image_size: tuple[int, int] = (96, 96),
) -> mujoco.MjSpec:
    """Describe the scene around a robot.

    Args:
        robot: The robot.
        gravity_compensation: Whether the drives of the arm carry its weight.
        coulomb_friction: Per arm joint, Nm.
        viscous_friction: Per arm joint, Nms/rad.
        timestep: Of the simulation, s.
        shadow_size: Side of the shadow map, px; it decides what an image costs.
        max_image_size: Largest (width, height) that will be rendered, px.
    """
    spec = mujoco.MjSpec.from_string(robot.mujoco_urdf())
    spec.modelname = f"vla_{robot.name}"
    set_options(spec, timestep)
    _set_rendering(spec, shadow_size, max_image_size)
    n = len(robot.joint_names)
    dress_robot(
        spec,
        robot,
        gravity_compensation=gravity_compensation,
        coulomb_friction=np.full(n, coulomb_friction),
        viscous_friction=np.full(n, viscous_friction),
        armature=robot.armature,
    )
    _add_surroundings(spec)
    _add_cubes(spec)
    add_props(spec)
    _add_cameras(spec, robot)
    spec.nuser_body = 4
    return spec


def build_model(robot: RobotSpec, **options: Any) -> mujoco.MjModel:
    """Compile the scene around a robot; the options are those of :func:`build_spec`."""
    return compile_scene(build_spec(robot, **options))


def compile_scene(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """Compile what :func:`build_spec` describes."""
    model = spec.compile()
    model.body_user[:] = np.column_stack((model.body_mass, model.body_inertia))
    return model


def nominal_inertia(model: mujoco.MjModel) -> FloatArray:
    """Return mass (kg) and principal inertia (kg m^2) of every body as compiled, shape (N, 4)."""
    return np.asarray(model.body_user)


def set_options(spec: mujoco.MjSpec, timestep: float) -> None:
    """Choose integrator, solver and ``timestep`` (s)."""
    spec.option.timestep = timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    # Stiffer friction than normal force: grasped cubes do not creep out of the pads.
    spec.option.impratio = 10.0
    spec.option.iterations = 30
    spec.option.ls_iterations = 20


def _set_rendering(spec: mujoco.MjSpec, shadow_size: int, max_image_size: tuple[int, int]) -> None:
    spec.visual.quality.shadowsize = shadow_size
    spec.visual.quality.offsamples = 4
    spec.visual.global_.offwidth, spec.visual.global_.offheight = max_image_size
    spec.visual.map.znear = 0.01
    spec.visual.map.zfar = 12.0
    spec.visual.headlight.diffuse = [0.12, 0.12, 0.12]
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]
    spec.stat.extent = 1.5
    spec.stat.center = [0.4, 0.0, 0.2]


def dress_robot(
    spec: mujoco.MjSpec,
    robot: RobotSpec,
    *,
    gravity_compensation: bool,
    coulomb_friction: FloatArray,
    viscous_friction: FloatArray,
    armature: FloatArray,
) -> None:
    """Give an arm its looks, contacts, joint friction, rotor inertia and motors.

    Args:
        spec: Loaded from the robot's URDF; changed.
        robot: The robot.
        gravity_compensation: Whether the drives carry the arm's weight.
        coulomb_friction: Per arm joint, Nm.
        viscous_friction: Per arm joint, Nms/rad.
        armature: Rotor inertia per arm joint, as seen at the joint, kg m^2.
    """
    for material, rgba in (("body", robot.body_rgba), ("dark", robot.dark_rgba)):
        spec.add_material(name=f"robot_{material}", rgba=rgba, specular=0.3, shininess=0.4)
    for body in spec.bodies:
        if body.name == "world":
            continue
        body.gravcomp = 1.0 if gravity_compensation else 0.0
        dark = body.name in robot.dark_links
        for index, geom in enumerate(body.geoms):
            geom.name = f"{body.name}_{index}"
            geom.material = "robot_dark" if dark else "robot_body"
            geom.contype, geom.conaffinity = ROBOT, ENVIRONMENT
            geom.condim = 4
            geom.friction = [0.6, 0.01, 0.0001]
    for finger in robot.finger_bodies:
        # The last box of a finger is its pad.
        pad = spec.body(finger).geoms[-1]
        pad.friction = [1.2, 0.02, 0.0001]
        pad.solref = [0.006, 1.0]
        pad.priority = 1
    for index, name in enumerate(robot.joint_names):
        joint = spec.joint(name)
        joint.armature = float(armature[index])
        joint.frictionloss = float(coulomb_friction[index])
        joint.damping = np.array([viscous_friction[index], 0.0, 0.0])
        motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.set_to_motor()
    for name in robot.finger_joint_names:
        joint = spec.joint(name)
        joint.armature = 0.1
        joint.frictionloss = 0.0
        joint.damping = np.array([2.0, 0.0, 0.0])
        motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.set_to_motor()
    # The URDF says that one finger mimics the other, which MuJoCo reads as a constraint.
    for belt in spec.equalities:
        belt.name = "finger_belt"
        belt.solref = [0.004, 1.0]


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.62, 0.74, 0.86],
        rgb2=[0.93, 0.95, 0.97],
        width=64,
        height=384,
    )
    spec.add_material(name="table", rgba=[*TABLE_RGB, 1.0], specular=0.1, shininess=0.1)
    spec.add_material(name="floor", rgba=[0.46, 0.48, 0.52, 1.0], specular=0.0)
    world = spec.worldbody
    world.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[6.0, 6.0, 0.1],
        pos=[0.0, 0.0, -0.75],
        material="floor",
        contype=ENVIRONMENT,
        conaffinity=ENVIRONMENT | ROBOT,
    )
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.5 * edge for edge in TABLE_SIZE],
        pos=TABLE_CENTER,
        material="table",
        contype=ENVIRONMENT,
        conaffinity=ENVIRONMENT | ROBOT,
        condim=4,
        friction=[0.6, 0.005, 0.0001],
    )
    for index, (x, y) in enumerate(((-0.1, -0.57), (-0.1, 0.57), (0.94, -0.57), (0.94, 0.57))):
        world.add_geom(
            name=f"table_leg_{index}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[0.03, 0.03, 0.355],
            pos=[x, y, -0.395],
            material="floor",
            contype=0,
            conaffinity=0,
        )
    world.add_light(
        name="main",
        type=mujoco.mjtLightType.mjLIGHT_SPOT,
        pos=[1.15, 0.35, 1.8],
        dir=[0.0, 0.0, -1.0],
        cutoff=40.0,
        exponent=0.5,
        castshadow=True,
        specular=[0.25, 0.25, 0.25],
    )


def _add_cubes(spec: mujoco.MjSpec) -> None:
    for color, rgb in COLORS.items():
        body = spec.worldbody.add_body(name=f"cube_{color}", pos=PARK)
        body.add_freejoint(name=f"cube_{color}")
        spec.add_material(name=f"cube_{color}", rgba=[*rgb, 1.0], specular=0.15, shininess=0.2)
        # Declares to the compiler that bodies may be made weightless, as parked cubes are.
        body.gravcomp = 1.0
        body.add_geom(
            name=f"cube_{color}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[0.5 * CUBE_SIZE] * 3,
            mass=0.06,
            material=f"cube_{color}",
            **FREE_CONTACT,
        )


def look_at(position: FloatArray, target: FloatArray, up: FloatArray) -> FloatArray:
    """Return the quaternion (wxyz) of a camera at ``position`` that looks at ``target``."""
    z = (position - target) / np.linalg.norm(position - target)
    x = np.cross(up, z)
    x /= np.linalg.norm(x)
    rotation = np.column_stack((x, np.cross(z, x), z))
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, rotation.ravel())
    return quat


def _add_cameras(spec: mujoco.MjSpec, robot: RobotSpec) -> None:
    spec.worldbody.add_camera(
        name="scene",
        pos=SCENE_CAMERA_POSITION,
        quat=look_at(SCENE_CAMERA_POSITION, SCENE_CAMERA_TARGET, np.array([0.0, 0.0, 1.0])),
        fovy=_SCENE_CAMERA_FOVY,
    )
    spec.worldbody.add_camera(
        name=OVERVIEW,
        pos=_OVERVIEW_POSITION,
        quat=look_at(_OVERVIEW_POSITION, _OVERVIEW_TARGET, np.array([0.0, 0.0, 1.0])),
        fovy=38.0,
    )
    position = np.array(robot.wrist_camera_position)
    target = np.array(robot.wrist_camera_target)
    spec.body(robot.tool_frame).add_camera(
        name="wrist",
        pos=position,
        quat=look_at(position, target, np.array([1.0, 0.0, 0.0])),
        fovy=_WRIST_CAMERA_FOVY,
    )
