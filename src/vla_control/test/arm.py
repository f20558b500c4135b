# SPDX-License-Identifier: Apache-2.0
"""An arm for the tests: its URDF, its plant and chunks for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pinocchio

import vla_control as vc

JOINTS = [f"joint{i}" for i in range(1, 8)]
BASE = "arm_base"
TOOL = "tool_tip"
HOME = np.array([0.1, -0.5, -0.1, -2.0, 0.15, 1.6, 0.7])
# Settings of the law that holds each joint.
JOINT_IMPEDANCE: dict[str, Any] = {
    "task_law": vc.TaskLawKind.JOINT_IMPEDANCE,
    "joint_stiffness": [300.0, 300.0, 250.0, 250.0, 60.0, 60.0, 40.0],
}

_LINKS = [  # (length to the next joint in m, mass in kg, axis, effort in Nm)
    (0.33, 4.0, "0 0 1", 87.0),
    (0.00, 3.0, "0 1 0", 87.0),
    (0.31, 3.0, "0 0 1", 87.0),
    (0.00, 2.5, "0 -1 0", 87.0),
    (0.38, 2.5, "0 0 1", 12.0),
    (0.00, 1.5, "0 -1 0", 12.0),
    (0.10, 0.8, "0 0 1", 12.0),
]


def make_urdf(base_xyz: str = "0 0 0", base_rpy: str = "0 0 0", offset: float = 0.08) -> str:
    """URDF of a seven-joint arm, mounted anywhere in the world, with one finger joint to lock."""
    parts = [
        '<robot name="arm"><link name="world"/>',
        f'<link name="{BASE}"/><joint name="mount" type="fixed"><parent link="world"/>'
        f'<child link="{BASE}"/><origin xyz="{base_xyz}" rpy="{base_rpy}"/></joint>',
    ]
    parent, height = BASE, 0.0
    for i, (length, mass, axis, effort) in enumerate(_LINKS, start=1):
        x = offset if i in (4, 7) else (-offset if i == 5 else 0.0)
        inertia = 0.01 * mass
        parts.append(
            f'<link name="link{i}"><inertial><origin xyz="0.01 0.02 {0.4 * length + 0.03}"/>'
            f'<mass value="{mass}"/><inertia ixx="{2 * inertia}" iyy="{1.7 * inertia}" '
            f'izz="{inertia}" ixy="0" ixz="0.0005" iyz="0"/></inertial></link>'
            f'<joint name="joint{i}" type="revolute"><parent link="{parent}"/>'
            f'<child link="link{i}"/><origin xyz="{x} 0 {height}"/><axis xyz="{axis}"/>'
            f'<limit lower="-2.9" upper="2.9" velocity="2.5" effort="{effort}"/></joint>'
        )
        parent, height = f"link{i}", length
    parts.append(
        '<link name="finger"><inertial><mass value="0.1"/><inertia ixx="1e-4" iyy="1e-4" '
        'izz="1e-4" ixy="0" ixz="0" iyz="0"/></inertial></link>'
        '<joint name="finger_joint" type="prismatic"><parent link="link7"/><child link="finger"/>'
        '<origin xyz="0 0 0.05"/><axis xyz="0 1 0"/>'
        '<limit lower="0" upper="0.04" velocity="1" effort="20"/></joint>'
        f'<link name="{TOOL}"/><joint name="tool_joint" type="fixed"><parent link="link7"/>'
        f'<child link="{TOOL}"/><origin xyz="0.01 0 0.2" rpy="3.1 0.1 0.4"/></joint></robot>'
    )
    return "".join(parts)


def make_description(**urdf_arguments: str) -> vc.RobotDescription:
    """Description of the test arm."""
    return vc.RobotDescription(make_urdf(**urdf_arguments), JOINTS, BASE, TOOL)


def make_config(**changes: object) -> vc.ControllerConfig:
    """Configuration that watches no heartbeat; dotted names are written with two underscores."""
    config = vc.ControllerConfig()
    config.command_includes_gravity = True
    config.effort_state = vc.EffortState.NONE
    config.heartbeat_timeout_s = 0.0
    for name, value in changes.items():
        target: object = config
        *path, last = name.split("__")
        for part in path:
            target = getattr(target, part)
        assert hasattr(target, last), name
        setattr(target, last, value)
    return config


def reduced_pinocchio(description: vc.RobotDescription) -> pinocchio.Model:
    """The same model in pinocchio's own Python bindings."""
    full = pinocchio.buildModelFromXML(description.urdf_xml)
    locked = [full.getJointId(n) for n in full.names[1:] if n not in description.joint_names]
    q = pinocchio.neutral(full)
    for name, position in description.locked_joints.items():
        q[full.joints[full.getJointId(name)].idx_q] = position
    return pinocchio.buildReducedModel(full, locked, q)


def rotation(axis_angle: np.ndarray | list[float]) -> np.ndarray:
    """Rotation matrix of a rotation vector."""
    return pinocchio.exp3(np.asarray(axis_angle, dtype=float))


def moved(pose: np.ndarray, translation: np.ndarray, turn: np.ndarray | None = None) -> np.ndarray:
    """The pose translated and turned (rotation vector) in the base frame."""
    out = pose.copy()
    out[:3, 3] += translation
    if turn is not None:
        out[:3, :3] = rotation(turn) @ out[:3, :3]
    return out


@dataclass
class Plant:
    """Controller and rigid-body plant in closed loop; the plant may be integrated finer."""

    description: vc.RobotDescription = field(default_factory=make_description)
    config: vc.ControllerConfig = field(default_factory=make_config)
    q: np.ndarray = field(default_factory=HOME.copy)
    rate: float = 1000.0
    time_ns: int = 0
    substeps: int = 1
    friction: tuple[float, float] = (0.0, 0.0)  # of every joint: Coulomb Nm, viscous Nms/rad
    armature: float = 0.0  # rotor inertia of every joint, kg m^2
    load: tuple[float, tuple[float, float, float]] | None = None  # kg, centre in the tool frame

    def __post_init__(self) -> None:
        """Builds the plant and activates the controller."""
        self.model = reduced_pinocchio(self.description)
        self.model.armature = np.full(self.model.nv, self.armature)
        self.bare = [pinocchio.Inertia(inertia) for inertia in self.model.inertias]
        self.carry(self.load)
        self.data = self.model.createData()
        self.kinematics = vc.RobotModel(self.description)
        self.controller = vc.Controller(self.description, self.config)
        self.dq = np.zeros(len(self.q))
        self.wrench = np.zeros(6)  # external, at the tool point, base axes
        self.tau = np.zeros(len(self.q))
        self.sequence = 0
        self.beat: tuple[int, int] | None = None
        self.owner = vc.Owner.NONE  # whom the heartbeat tells of
        self.controller.activate(self.q, self.dq, self.time_ns)

    def carry(self, load: tuple[float, tuple[float, float, float]] | None) -> None:
        """Puts a sphere of this mass and centre in the tool, in place of the one before."""
        tool = self.model.frames[self.model.getFrameId(self.description.tool_frame)]
        inertia = pinocchio.Inertia(self.bare[tool.parentJoint])
        if load is not None:
            mass, center = load
            sphere = pinocchio.Inertia(mass, np.array(center), 1e-3 * mass * np.eye(3))
            inertia += tool.placement.act(sphere)
        self.model.inertias[tool.parentJoint] = inertia

    def rubbed(self, dq: np.ndarray, dt: float) -> np.ndarray:
        """Joint velocity after a step of friction: implicit, so that joints truly stick."""
        coulomb, viscous = self.friction
        mass = pinocchio.crba(self.model, self.data, self.q)
        mass = np.triu(mass) + np.triu(mass, 1).T
        mobility = np.linalg.inv(mass + dt * viscous * np.eye(len(dq)))
        out = mobility @ (mass @ dq)
        impulse = np.zeros(len(dq))
        for _ in range(6):  # projected Gauss-Seidel
            for i in range(len(dq)):
                wanted = np.clip(impulse[i] - out[i] / mobility[i, i], -coulomb * dt, coulomb * dt)
                out = out + mobility[:, i] * (wanted - impulse[i])
                impulse[i] = wanted
        return out

    @property
    def kinetic_energy(self) -> float:
        """J."""
        return float(pinocchio.computeKineticEnergy(self.model, self.data, self.q, self.dq))

    @property
    def pose(self) -> np.ndarray:
        """Tool in base."""
        return self.kinematics.forward_kinematics(self.q)

    def step(
        self,
        q: np.ndarray | None = None,
        dq: np.ndarray | None = None,
        advance_ns: int | None = None,
    ) -> np.ndarray:
        """One cycle; `q` and `dq` replace the measurement, `advance_ns` the step of the clock."""
        period_ns = round(1e9 / self.rate)
        self.time_ns += period_ns if advance_ns is None else advance_ns
        if self.beat is not None:
            self.controller.heartbeat(*self.beat, self.time_ns, self.owner)
        self.tau = self.controller.update(
            self.q if q is None else q, self.dq if dq is None else dq, self.time_ns, 1 / self.rate
        )
        dt = 1 / self.rate / self.substeps
        for _ in range(self.substeps):
            external = self.kinematics.jacobian(self.q).T @ self.wrench
            ddq = pinocchio.aba(self.model, self.data, self.q, self.dq, self.tau + external)
            self.dq = self.dq + dt * ddq
            if any(self.friction):
                self.dq = self.rubbed(self.dq, dt)
            self.q = self.q + dt * self.dq
        return self.tau

    def run(self, seconds: float) -> list[vc.ControllerState]:
        """Runs and returns the state after every cycle."""
        states = []
        for _ in range(round(seconds * self.rate)):
            self.step()
            states.append(self.controller.state())
        return states

    def chunk(self, poses: np.ndarray, **changes: object) -> vc.Chunk:
        """A chunk observed now, with the next sequence number."""
        self.sequence += 1
        arguments: dict[str, object] = {
            "stamp_ns": self.time_ns,
            "step_dt": 0.05,
            "base_frame": self.description.base_frame,
            "tool_frame": self.description.tool_frame,
            "poses": poses,
            "sequence": self.sequence,
        }
        if self.beat is not None:
            arguments.update(boot_id=self.beat[0], grant=self.beat[1])
        arguments.update(changes)
        return vc.Chunk(**arguments)  # type: ignore[arg-type]

    def push(self, poses: np.ndarray, **changes: object) -> vc.RejectReason:
        """Offers a chunk observed now."""
        return self.controller.push_chunk(self.chunk(poses, **changes))


def glide(
    start: np.ndarray,
    translation: np.ndarray | list[float],
    turn: np.ndarray | list[float] | None = None,
    steps: int = 16,
    ramp: bool = True,
) -> np.ndarray:
    """(steps, 4, 4) poses from `start` on, by a smooth or an even motion."""
    fractions = np.linspace(0.0, 1.0, steps)
    if ramp:
        fractions = fractions * fractions * (3 - 2 * fractions)
    turn = np.zeros(3) if turn is None else np.asarray(turn, dtype=float)
    return np.array([moved(start, f * np.asarray(translation), f * turn) for f in fractions])


def long_glide(plant: Plant) -> np.ndarray:
    """Sixteen steps of a motion that is nowhere near a limit."""
    return glide(plant.pose, [0.12, 0.05, -0.08], [0.0, 0.2, 0.3])


def start_moving(plant: Plant, seconds: float = 0.4) -> None:
    """Pushes a chunk and runs into the middle of it."""
    assert plant.push(long_glide(plant)) is vc.RejectReason.NONE
    plant.run(seconds)
    state = plant.controller.state()
    assert state.phase is vc.Phase.TRACKING
    assert np.linalg.norm(state.reference_twist_tool_in_base[:3]) > 0.1


def assert_brakes_to_a_hold(plant: Plant, seconds: float = 1.0) -> None:
    """Runs on: no limit becomes active, the reference brakes within its limits and rests."""
    plant.controller.state()
    states = plant.run(seconds)
    accelerations = np.array([s.reference_acceleration_tool_in_base for s in states])
    assert np.linalg.norm(accelerations[:, :3], axis=1).max() <= 5.0 * 1.01
    assert np.linalg.norm(accelerations[:, 3:], axis=1).max() <= 15.0 * 1.01
    assert not any(s.torque_saturated or s.torque_rate_saturated for s in states)
    np.testing.assert_array_equal(states[-1].reference_twist_tool_in_base, np.zeros(6))
    assert np.abs(plant.dq).max() < 0.02
