# SPDX-License-Identifier: Apache-2.0
"""The simulated hardware of the benchmark: an arm, its drives, and what nobody knows of them.

The controller always has the nominal model. What a draw changes is the plant: masses, inertias,
centres of mass, friction.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

import vla_control
from vla_sim import scene
from vla_sim._core import Plant, PlantConfig, PlantLayout
from vla_sim.robots import RobotSpec
from vla_sim.typing import FloatArray

WALL = "wall"
_PROBE = "probe"
_PROBE_RADIUS = 0.01
# Time constants of a contact with friction, across the plate and along it, s.
_TOUCH, _SLIP = 0.01, 1.0
_SENSORS = ("force", "torque")
_PHYSICS_STEP = 1e-3
# Arrays of the model that a draw changes.
_DRAWN = ("body_mass", "body_inertia", "body_ipos", "dof_frictionloss", "dof_damping")


@dataclass(frozen=True)
class Hardware:
    """What an arm's drives and surroundings are like.

    Attributes:
        coulomb: Friction per joint, Nm.
        viscous: Friction per joint, Nms/rad.
        armature: Rotor inertia as seen at each joint, kg m^2.
        delay_cycles: By which torques act late.
        gravity_compensation: Whether the drives carry the arm's weight, whatever it is.
        payload: Mass that nobody has told the controller of, in the tool point, kg.
        wall_below: Distance from the tool's start down to a rigid floor, m; None = no floor.
        wall_friction: Its coefficient of friction.
        force_sensor: Whether a sensor at the tool measures what touches it.
    """

    coulomb: FloatArray
    viscous: FloatArray
    armature: FloatArray
    delay_cycles: int = 1
    gravity_compensation: bool = True
    payload: float = 0.0
    wall_below: float | None = None
    wall_friction: float = 0.0
    force_sensor: bool = False


@dataclass(frozen=True)
class ModelError:
    """How far the plant is from the controller's model.

    Attributes:
        inertial: Largest relative deviation of each link's mass, inertia and centre of mass.
        friction: Largest relative deviation of each joint's Coulomb and viscous friction.
    """

    inertial: float = 0.10
    friction: float = 0.30


class Rig:
    """One compiled arm that draws of model errors are applied to.

    Args:
        robot: The arm.
        hardware: Its drives and surroundings.
        rate: Of the controller, Hz.
    """

    def __init__(self, robot: RobotSpec, hardware: Hardware, rate: float) -> None:
        self.robot = robot
        self.hardware = hardware
        self.model = _compile(robot, hardware)
        self.data = mujoco.MjData(self.model)
        self._nominal = {
            name: getattr(self.model, name).copy()
            for name in (
                "body_mass",
                "body_inertia",
                "body_ipos",
                "dof_frictionloss",
                "dof_damping",
            )
        }
        self._arm_dof = [int(self.model.joint(n).dofadr[0]) for n in robot.joint_names]
        config = PlantConfig()
        config.max_opening = robot.max_opening
        config.gripper_default_force = robot.default_gripper_force
        config.delay_cycles = hardware.delay_cycles
        config.substeps = round(1.0 / (rate * _PHYSICS_STEP))
        self._period = config.substeps * _PHYSICS_STEP
        self._start = np.array(robot.home_q)
        self.lay()
        self.plant = Plant(self.model._address, self.data._address, self.layout(), config)

    @property
    def plant_period(self) -> float:
        """Duration of a control cycle, s."""
        return float(self._period)

    @property
    def wall_body(self) -> int:
        """Index of the body that is touched; the world where there is no wall."""
        return 0 if self.hardware.wall_below is None else int(self.model.body(WALL).id)

    def start_at(self, pose: FloatArray) -> None:
        """Let the arm start at the posture near home that gives the tool this pose.

        Raises:
            ValueError: It does not get there.
        """
        model = vla_control.RobotModel(self.robot.description())
        q, converged = model.inverse_kinematics(pose, self.robot.home_q)
        if not converged:
            raise ValueError(f"{self.robot.name} does not reach {pose[:3, 3]} from its home")
        self._start = q

    def lay(self) -> None:
        """Put the arm at rest into its start posture."""
        mujoco.mj_resetData(self.model, self.data)
        for name, value in zip(self.robot.joint_names, self._start, strict=True):
            self.data.joint(name).qpos = value
        for name in self.robot.finger_joint_names:
            self.data.joint(name).qpos = 0.5 * self.robot.max_opening
        mujoco.mj_forward(self.model, self.data)

    def draw(self, seed: int | None, error: ModelError) -> None:
        """Change the plant by a draw of model errors; None = as the controller believes."""
        model = self.model
        for name, value in self._nominal.items():
            getattr(model, name)[:] = value
        if seed is not None:
            rng = np.random.default_rng(seed)

            def factor(*shape: int, spread: float) -> FloatArray:
                return 1.0 + spread * rng.uniform(-1.0, 1.0, shape)

            mass = factor(model.nbody, spread=error.inertial)
            model.body_mass[:] *= mass
            model.body_inertia[:] *= (mass * factor(model.nbody, spread=error.inertial))[:, None]
            model.body_ipos[:] *= factor(model.nbody, 3, spread=error.inertial)
            arm = self._arm_dof
            model.dof_frictionloss[arm] *= factor(len(arm), spread=error.friction)
            viscous = factor(len(arm), spread=error.friction)
            model.dof_damping[arm] = (model.dof_damping[arm].T * viscous).T
        mujoco.mj_setConst(model, self.data)
        self.lay()

    def layout(self) -> PlantLayout:
        """Return where the arm and its fingers are in the arrays of MuJoCo."""
        robot, model = self.robot, self.model
        layout = PlantLayout()
        layout.arm_qpos = [int(model.joint(n).qposadr[0]) for n in robot.joint_names]
        layout.arm_dof = list(self._arm_dof)
        layout.arm_actuator = [int(model.actuator(n).id) for n in robot.joint_names]
        layout.finger_qpos = [int(model.joint(n).qposadr[0]) for n in robot.finger_joint_names]
        layout.finger_dof = [int(model.joint(n).dofadr[0]) for n in robot.finger_joint_names]
        layout.finger_actuator = [int(model.actuator(n).id) for n in robot.finger_joint_names]
        layout.finger_body = [int(model.body(n).id) for n in robot.finger_bodies]
        layout.object_body = []
        if self.hardware.force_sensor:
            layout.force_sensor = [int(model.sensor(kind).adr[0]) for kind in _SENSORS]
        return layout


def _compile(robot: RobotSpec, hardware: Hardware) -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_string(robot.mujoco_urdf())
    scene.set_options(spec, _PHYSICS_STEP)
    scene.dress_robot(
        spec,
        robot,
        gravity_compensation=hardware.gravity_compensation,
        coulomb_friction=hardware.coulomb,
        viscous_friction=hardware.viscous,
        armature=hardware.armature,
    )
    # Only the probe touches anything, and nothing but the wall: as a pair of their own.
    for geom in spec.geoms:
        geom.contype, geom.conaffinity = 0, 0
    tool = spec.body(robot.tool_frame)
    if hardware.payload > 0.0:
        load = tool.add_body(name="payload")
        load.mass = hardware.payload
        load.inertia = [1e-4] * 3
        load.explicitinertial = True
    if hardware.force_sensor:
        tool.add_site(name="force_sensor")
        for kind, sensor in zip(
            _SENSORS, (mujoco.mjtSensor.mjSENS_FORCE, mujoco.mjtSensor.mjSENS_TORQUE), strict=True
        ):
            spec.add_sensor(
                name=kind, type=sensor, objtype=mujoco.mjtObj.mjOBJ_SITE, objname="force_sensor"
            )
    if hardware.wall_below is not None:
        tool.add_geom(
            name=_PROBE,
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=[_PROBE_RADIUS, 0.0, 0.0],
            mass=0.0,
            contype=0,
            conaffinity=0,
        )
    model = spec.compile()
    if hardware.wall_below is None:
        return model
    data = mujoco.MjData(model)
    for name, value in zip(robot.joint_names, robot.home_q, strict=True):
        data.joint(name).qpos = value
    mujoco.mj_forward(model, data)
    x, y, z = data.body(robot.tool_frame).xpos
    thickness = 0.05
    wall = spec.worldbody.add_body(
        name=WALL, pos=[x, y, z - hardware.wall_below - _PROBE_RADIUS - thickness]
    )
    wall.add_geom(
        name=WALL,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.5, 0.5, thickness],
        contype=0,
        conaffinity=0,
    )
    touch = spec.add_pair(geomname1=WALL, geomname2=_PROBE, condim=3)
    # As stiff as the step of the physics allows, critically damped.
    touch.solref = [2.0 * _PHYSICS_STEP, 1.0]
    touch.solimp = [0.99, 0.999, 1e-4, 0.5, 2.0]
    touch.friction = [hardware.wall_friction, hardware.wall_friction, 0.0, 0.0, 0.0]
    if hardware.wall_friction > 0.0:
        # MuJoCo's convex cone gives what slides with v a normal acceleration of mu b v, with
        # b = 2 / time constant of the friction: a rigid contact would hop, and throw a tool that
        # hits it aslant. A slow time constant along the plate and 200 kN/m across it keep it down.
        touch.solref = [_TOUCH, 1.0]
        touch.solimp = [0.5, 0.5, 1e-3, 0.5, 2.0]
        touch.solreffriction = [_SLIP, 1.0]
    return spec.compile()
