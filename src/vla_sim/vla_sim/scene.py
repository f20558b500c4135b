# SPDX-License-Identifier: Apache-2.0
"""The scene: table, coloured cubes, bowl, zone, lights and cameras around one robot.

One MuJoCo model per robot holds everything a task may need. A :class:`SceneLayout` says what of it
is on the table and where, and how the scene looks; laying it changes poses, colours, lights and
cameras of the compiled model, so a reset compiles nothing. What a task does not use is parked out
of sight, weightless.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from vla_sim.robots import RobotSpec
from vla_sim.typing import FloatArray

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.08, 0.08),
    "green": (0.08, 0.62, 0.14),
    "blue": (0.08, 0.20, 0.85),
    "yellow": (0.95, 0.80, 0.05),
}
CAMERAS = ("scene", "wrist")
# Shows the whole robot, for pictures; no policy sees it.
OVERVIEW = "overview"
CUBE_SIZE = 0.04
BOWL_RADIUS = 0.07
BOWL_HEIGHT = 0.038
ZONE_RADIUS = 0.06

# Bits of contype/conaffinity: the robot touches the environment but not itself.
_ENVIRONMENT = 1
_ROBOT = 2

# Behind the scene camera.
_PARK = np.array([8.0, 0.0, 0.5])
_SCENE_CAMERA_POSITION = np.array([1.30, 0.0, 0.86])
_SCENE_CAMERA_TARGET = np.array([0.525, 0.0, 0.05])
_SCENE_CAMERA_FOVY = 32.5
_WRIST_CAMERA_FOVY = 75.0
_OVERVIEW_POSITION = np.array([1.45, -0.95, 0.80])
_OVERVIEW_TARGET = np.array([0.28, 0.02, 0.22])
_LIGHT_TARGET = np.array([0.5, 0.0, 0.0])
_TABLE_RGB = np.array([0.80, 0.74, 0.66])
_ZONE_RGB = np.array([0.86, 0.20, 0.75])
_BOWL_RGB = np.array([0.93, 0.93, 0.96])


@dataclass(frozen=True)
class CubePose:
    """Where a cube lies on the table.

    Attributes:
        color: One of ``COLORS``.
        x: Position in the base frame, m.
        y: Position in the base frame, m.
        yaw: Rotation about the vertical, rad.
    """

    color: str
    x: float
    y: float
    yaw: float


@dataclass(frozen=True)
class SceneLook:
    """How the scene looks: small draws around the nominal appearance.

    Attributes:
        light_position: Main light in the base frame, m.
        light_diffuse: Brightness of the main light, 0..1.
        light_ambient: Brightness from everywhere, 0..1.
        camera_position_offset: Shift of the scene camera, m.
        camera_target_offset: Shift of the point it looks at, m.
        color_offsets: Added to the RGB of table, zone, bowl and the four cubes, shape (7, 3).
    """

    light_position: FloatArray
    light_diffuse: float
    light_ambient: float
    camera_position_offset: FloatArray
    camera_target_offset: FloatArray
    color_offsets: FloatArray

    @staticmethod
    def nominal() -> SceneLook:
        """Return the appearance without any variation."""
        return SceneLook(
            light_position=np.array([1.15, 0.35, 1.8]),
            light_diffuse=0.42,
            light_ambient=0.58,
            camera_position_offset=np.zeros(3),
            camera_target_offset=np.zeros(3),
            color_offsets=np.zeros((7, 3)),
        )

    @staticmethod
    def sample(rng: np.random.Generator) -> SceneLook:
        """Draw a modest variation of the nominal appearance."""
        nominal = SceneLook.nominal()
        return SceneLook(
            light_position=nominal.light_position + rng.uniform(-1, 1, 3) * [0.25, 0.5, 0.2],
            light_diffuse=nominal.light_diffuse + float(rng.uniform(-0.10, 0.10)),
            light_ambient=nominal.light_ambient + float(rng.uniform(-0.06, 0.06)),
            camera_position_offset=rng.uniform(-0.015, 0.015, 3),
            camera_target_offset=rng.uniform(-0.008, 0.008, 3),
            color_offsets=rng.uniform(-0.04, 0.04, (7, 3)),
        )


@dataclass(frozen=True)
class SceneLayout:
    """What is on the table at the start of an episode.

    Attributes:
        cubes: The cubes on the table.
        bowl: Position (x, y) of the bowl in the base frame, m; None = no bowl.
        zone: Position (x, y) of the zone's centre in the base frame, m; None = no zone.
        q: Arm joints at the start, rad.
        look: How it looks.
    """

    cubes: tuple[CubePose, ...]
    bowl: tuple[float, float] | None
    zone: tuple[float, float] | None
    q: FloatArray
    look: SceneLook


def build_model(
    robot: RobotSpec,
    *,
    gravity_compensation: bool = True,
    coulomb_friction: float = 0.2,
    viscous_friction: float = 0.5,
    timestep: float = 1e-3,
    shadow_size: int = 512,
    max_image_size: tuple[int, int] = (96, 96),
) -> mujoco.MjModel:
    """Compile the scene around a robot.

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
    _add_objects(spec)
    _add_cameras(spec, robot)
    return spec.compile()


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
            geom.contype, geom.conaffinity = _ROBOT, _ENVIRONMENT
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
    spec.add_material(name="table", rgba=[*_TABLE_RGB, 1.0], specular=0.1, shininess=0.1)
    spec.add_material(name="floor", rgba=[0.46, 0.48, 0.52, 1.0], specular=0.0)
    world = spec.worldbody
    world.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[6.0, 6.0, 0.1],
        pos=[0.0, 0.0, -0.75],
        material="floor",
        contype=_ENVIRONMENT,
        conaffinity=_ENVIRONMENT | _ROBOT,
    )
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.60, 0.65, 0.02],
        pos=[0.42, 0.0, -0.02],
        material="table",
        contype=_ENVIRONMENT,
        conaffinity=_ENVIRONMENT | _ROBOT,
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


def _add_objects(spec: mujoco.MjSpec) -> None:
    for color, rgb in COLORS.items():
        body = spec.worldbody.add_body(name=f"cube_{color}", pos=_PARK)
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
            contype=_ENVIRONMENT,
            conaffinity=_ENVIRONMENT | _ROBOT,
            condim=4,
            friction=[0.6, 0.005, 0.0001],
            solref=[0.006, 1.0],
        )
    zone = spec.worldbody.add_body(name="zone", pos=_PARK, mocap=True)
    spec.add_material(name="zone", rgba=[*_ZONE_RGB, 1.0], specular=0.0)
    zone.add_geom(
        name="zone",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[ZONE_RADIUS, 0.0006, 0.0],
        material="zone",
        contype=0,
        conaffinity=0,
    )
    _add_bowl(spec)


def _add_bowl(spec: mujoco.MjSpec) -> None:
    """A bowl of flat staves around a disc; it stands fast, as if stuck to the table."""
    bowl = spec.worldbody.add_body(name="bowl", pos=_PARK, mocap=True)
    spec.add_material(name="bowl", rgba=[*_BOWL_RGB, 1.0], specular=0.3, shininess=0.5)
    common = {
        "material": "bowl",
        "contype": _ENVIRONMENT,
        "conaffinity": _ENVIRONMENT | _ROBOT,
        "condim": 4,
        "friction": [0.5, 0.005, 0.0001],
    }
    bottom = 0.048
    bowl.add_geom(
        name="bowl_bottom",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[bottom, 0.003, 0.0],
        pos=[0.0, 0.0, 0.003],
        **common,
    )
    staves = 12
    lean = np.arctan2(BOWL_RADIUS - bottom, BOWL_HEIGHT)
    length = np.hypot(BOWL_RADIUS - bottom, BOWL_HEIGHT)
    middle = 0.5 * (BOWL_RADIUS + bottom)
    for index in range(staves):
        angle = 2.0 * np.pi * index / staves
        quat_about_z = np.array([np.cos(0.5 * angle), 0.0, 0.0, np.sin(0.5 * angle)])
        quat_lean = np.array([np.cos(0.5 * lean), 0.0, np.sin(0.5 * lean), 0.0])
        quat = np.zeros(4)
        mujoco.mju_mulQuat(quat, quat_about_z, quat_lean)
        bowl.add_geom(
            name=f"bowl_stave_{index}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[0.003, BOWL_RADIUS * np.tan(np.pi / staves) + 0.001, 0.5 * length],
            pos=[middle * np.cos(angle), middle * np.sin(angle), 0.5 * BOWL_HEIGHT],
            quat=quat,
            **common,
        )


def _look_at(position: FloatArray, target: FloatArray, up: FloatArray) -> FloatArray:
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
        pos=_SCENE_CAMERA_POSITION,
        quat=_look_at(_SCENE_CAMERA_POSITION, _SCENE_CAMERA_TARGET, np.array([0.0, 0.0, 1.0])),
        fovy=_SCENE_CAMERA_FOVY,
    )
    spec.worldbody.add_camera(
        name=OVERVIEW,
        pos=_OVERVIEW_POSITION,
        quat=_look_at(_OVERVIEW_POSITION, _OVERVIEW_TARGET, np.array([0.0, 0.0, 1.0])),
        fovy=38.0,
    )
    position = np.array(robot.wrist_camera_position)
    target = np.array(robot.wrist_camera_target)
    spec.body(robot.tool_frame).add_camera(
        name="wrist",
        pos=position,
        quat=_look_at(position, target, np.array([1.0, 0.0, 0.0])),
        fovy=_WRIST_CAMERA_FOVY,
    )


def lay(model: mujoco.MjModel, data: mujoco.MjData, robot: RobotSpec, layout: SceneLayout) -> None:
    """Reset ``data`` to the start of an episode and give ``model`` its look.

    Args:
        model: Model from :func:`build_model`; colours, lights and cameras are changed.
        data: Its data; everything is reset, the gripper is open.
        robot: The robot of the model.
        layout: What to lay.
    """
    mujoco.mj_resetData(model, data)
    for name, value in zip(robot.joint_names, layout.q, strict=True):
        data.joint(name).qpos = value
    for name in robot.finger_joint_names:
        data.joint(name).qpos = 0.5 * robot.max_opening
    on_table = {cube.color: cube for cube in layout.cubes}
    for index, color in enumerate(COLORS):
        body = model.body(f"cube_{color}")
        cube = on_table.get(color)
        model.body_gravcomp[body.id] = 0.0 if cube else 1.0
        if cube:
            half = 0.5 * cube.yaw
            position = [cube.x, cube.y, 0.5 * CUBE_SIZE]
            data.joint(f"cube_{color}").qpos = [*position, np.cos(half), 0.0, 0.0, np.sin(half)]
        else:
            x, y, z = _PARK
            data.joint(f"cube_{color}").qpos = [x, y + 0.2 * index, z, 1.0, 0.0, 0.0, 0.0]
    data.mocap_pos[:] = prop_positions(model, layout)
    set_look(model, layout.look)
    mujoco.mj_forward(model, data)


def prop_positions(model: mujoco.MjModel, layout: SceneLayout) -> FloatArray:
    """Return the positions of bowl and zone in the order of ``mocap_pos``, shape (2, 3), m."""
    positions = np.tile(_PARK - [0.0, 0.5, 0.0], (model.nmocap, 1))
    for name, place in (("bowl", layout.bowl), ("zone", layout.zone)):
        if place is not None:
            positions[model.body(name).mocapid[0]] = [*place, 0.0]
    return positions


def set_look(model: mujoco.MjModel, look: SceneLook) -> None:
    """Give ``model`` the colours, lights and scene camera of ``look``."""
    base_colors = [_TABLE_RGB, _ZONE_RGB, _BOWL_RGB, *map(np.array, COLORS.values())]
    materials = ["table", "zone", "bowl", *(f"cube_{color}" for color in COLORS)]
    for material, rgb, offset in zip(materials, base_colors, look.color_offsets, strict=True):
        model.material(material).rgba[:3] = np.clip(rgb + offset, 0.0, 1.0)
    light = model.light("main")
    light.pos[:] = look.light_position
    direction = _LIGHT_TARGET - look.light_position
    light.dir[:] = direction / np.linalg.norm(direction)
    light.diffuse[:] = look.light_diffuse
    model.vis.headlight.ambient[:] = look.light_ambient
    camera = model.camera("scene")
    position = _SCENE_CAMERA_POSITION + look.camera_position_offset
    target = _SCENE_CAMERA_TARGET + look.camera_target_offset
    camera.pos[:] = position
    camera.quat[:] = _look_at(position, target, np.array([0.0, 0.0, 1.0]))
