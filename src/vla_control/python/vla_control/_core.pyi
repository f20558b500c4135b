# SPDX-License-Identifier: Apache-2.0
"""Compliant controller core.

SI units, radians, int64 nanoseconds; poses are 4x4 matrices of the tool frame in the base frame,
quaternions are xyzw.
"""

import enum
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_JOINTS: int = 10
MAX_STEPS: int = 64
MAX_DISTANCES: int = 16

class RejectReason(enum.IntEnum):
    """Why a chunk was rejected; numbers as REJECT_* of ControllerState."""

    NONE = 0
    NOT_ACTIVE = 1
    EMPTY = 2
    TOO_LONG = 3
    BAD_SHAPE = 4
    NOT_FINITE = 5
    BAD_QUATERNION = 6
    BAD_STEP = 7
    WRONG_FRAME = 8
    STALE = 9
    FUTURE = 10
    OLD_GRANT = 11
    OLD_SEQUENCE = 12
    UNSUPPORTED_MODE = 13
    OUT_OF_WORKSPACE = 14
    TOO_FAST = 15
    FAULT = 16
    BUSY = 17
    UNREACHABLE = 18
    UNMONITORED = 19
    BAD_STIFFNESS = 20

class Phase(enum.IntEnum):
    """What the controller does; numbers as PHASE_* of ControllerState."""

    INACTIVE = 0
    HOLDING = 1
    TRACKING = 2
    BRAKING = 3
    FAULT = 4

class Owner(enum.IntEnum):
    """Who has the arm; numbers as OWNER_* of ControlOwner."""

    NONE = 0
    POLICY = 1
    RECOVERY = 2
    OPERATOR = 3

class Fault(enum.IntEnum):
    """Why it is in FAULT; numbers as FAULT_* of ControllerState."""

    NONE = 0
    STOP_REQUESTED = 1
    HEARTBEAT_LOST = 2
    CHUNK_TIMEOUT = 3
    BAD_JOINT_STATE = 4
    CLOCK_JUMP = 5
    NUMERIC = 6
    TRACKING_DEVIATION = 7
    FORCE_SENSOR = 8
    CONTACT_FORCE = 9

class ChunkMode(enum.IntEnum):
    """Numbers as MODE_* of ActionChunk."""

    POSE = 0
    JOINT_POSITION = 1
    TWIST = 2

class Chunk:
    """Future commanded tool poses; step i is meant for stamp_ns + i * step_dt.

    Checked by Controller.push_chunk, not here.
    """

    def __init__(
        self,
        stamp_ns: int,
        step_dt: float,
        base_frame: str,
        tool_frame: str,
        poses: ArrayLike | None = None,
        gripper_opening: ArrayLike | None = None,
        gripper_max_force: ArrayLike | None = None,
        boot_id: int = 0,
        grant: int = 0,
        sequence: int = 0,
        mode: ChunkMode = ChunkMode.POSE,
        *,
        poses_xyz_xyzw: ArrayLike | None = None,
        joint_names: Sequence[str] = [],
        joint_values: ArrayLike | None = None,
        twists: ArrayLike | None = None,
        wrenches: ArrayLike | None = None,
        stiffness: ArrayLike | None = None,
    ) -> None:
        """Takes the poses as they are.

        Args:
            stamp_ns: When the observation was taken.
            step_dt: Time between steps in s.
            base_frame: Frame the poses are in.
            tool_frame: Frame whose poses they are.
            poses: (steps, 4, 4) homogeneous matrices.
            gripper_opening: (steps,) m between the finger pads; none = leave it as it is.
            gripper_max_force: (steps,) N; none = the default force.
            boot_id: Start of the supervisor that granted control.
            grant: Number of the grant under that boot id.
            sequence: Counts from 1 within a grant; 0 = not numbered, not checked.
            mode: Which of poses, joint_values and twists is given.
            poses_xyz_xyzw: Instead of poses: (steps, 7) position in m and quaternion, as received.
            joint_names: Columns of joint_values, in any order.
            joint_values: (steps, joints) in rad.
            twists: (steps, 6) m/s and rad/s of the tool point in base axes, one per step.
            wrenches: (steps, 6) N and Nm the tool shall exert, base axes; none = no force tracking.
            stiffness: (steps, 6, 6) N/m, N and Nm/rad, base axes; none = the configured stiffness.
        """
    stamp_ns: int
    step_dt: float
    base_frame: str
    tool_frame: str
    mode: ChunkMode
    gripper_opening: list[float]
    gripper_max_force: list[float]
    joint_names: list[str]
    joint_values: list[float]
    stiffness: list[float]
    boot_id: int
    grant: int
    sequence: int

    def __len__(self) -> int: ...
    @property
    def poses(self) -> NDArray[np.float64]:
        """(steps, 4, 4) tool frame in the base frame. Getting it copies."""

    @poses.setter
    def poses(self, value: ArrayLike, /) -> None: ...
    @property
    def wrenches(self) -> NDArray[np.float64]:
        """(steps, 6) N and Nm the tool shall exert, base axes. Getting it copies."""

class ChunkConfig:
    """Which chunks are accepted and how they are blended; see config.hpp."""

    def __init__(self) -> None: ...
    max_age_s: float
    max_future_s: float
    max_steps: int
    min_step_dt: float
    max_step_dt: float
    blend_time: float
    max_blend_time: float
    velocity_factor: float
    acceleration_factor: float
    accept_joint_positions: bool
    accept_twists: bool
    accept_stiffness: bool
    max_translational_stiffness: float
    max_rotational_stiffness: float
    max_slowdown: float
    joint_velocity_share: float
    smoothing_deviation: float
    smoothing_rotation_deviation: float
    timeout_s: float

class GripperConfig:
    """Range of gripper commands; values outside are clamped."""

    def __init__(self) -> None: ...
    max_opening: float
    default_force: float
    max_force: float

class EffortState(enum.IntEnum):
    """What a robot reports as measured joint effort."""

    TOTAL = 0
    GRAVITY_FREE = 1
    CURRENT = 2
    NONE = 3

class TaskLawKind(enum.IntEnum):
    """Which law holds the arm to its reference."""

    IMPEDANCE = 0
    OPERATIONAL_SPACE = 1
    JOINT_IMPEDANCE = 2

class StiffnessFrame(enum.IntEnum):
    """Axes of the stiffness."""

    BASE = 0
    TOOL = 1

class Payload:
    """A load fixed to the tool that neither the URDF nor the robot's own compensation knows."""

    def __init__(
        self,
        mass: float = 0.0,
        center_of_mass: ArrayLike | None = None,
        inertia: ArrayLike | None = None,
        bias: ArrayLike | None = None,
    ) -> None:
        """Takes the values as they are, none for zeros; the controller checks them.

        Args:
            mass: kg.
            center_of_mass: (3,) m, tool frame.
            inertia: (3, 3) kg m^2, about the centre of mass, tool axes.
            bias: (6,) N and Nm, at the tool point, base axes: acts besides the weight.
        """
    mass: float
    center_of_mass: NDArray[np.float64]
    inertia: NDArray[np.float64]
    bias: NDArray[np.float64]

class TaskGains:
    """Gains that may change while the controller runs."""

    def __init__(
        self,
        stiffness: ArrayLike,
        damping_ratio: float = 1.0,
        joint_stiffness: ArrayLike | None = None,
    ) -> None:
        """Stiffness (6, 6), symmetric positive definite, N/m, N and Nm/rad.

        ``joint_stiffness``: Nm/rad, of the joint-impedance law; None = as it is.
        """
    stiffness: NDArray[np.float64]
    damping_ratio: float
    @property
    def joint_stiffness(self) -> NDArray[np.float64]: ...

class FrictionConfig:
    """Joint friction that is compensated at the reference's velocity; see law_config.hpp."""

    def __init__(self) -> None: ...
    coulomb: list[float]
    viscous: list[float]
    smoothing_speed: float

class IntegralConfig:
    """Leaky, clamped integral of the spring force; see law_config.hpp."""

    def __init__(self) -> None: ...
    gain: float
    leak: float
    max_force: float
    max_torque: float
    dead_position: float
    dead_rotation: float

class ForceConfig:
    """Force tracking of the chunks' wrenches along chosen base axes; see law_config.hpp."""

    def __init__(self) -> None: ...
    axes: list[bool]
    gain: float
    max_force: float
    max_torque: float
    max_integral_force: float
    max_integral_torque: float
    fade_s: float

class SensingConfig:
    """Momentum observer and what is concluded from it; see law_config.hpp."""

    def __init__(self) -> None: ...
    observer_bandwidth: float
    contact_force: float
    contact_torque: float
    contact_release: float
    contact_release_s: float
    yield_s: float
    lost_fraction: float
    lost_s: float
    lost_least_mass: float
    tare_s: float

class WrenchLimits:
    """Largest wrench of the task law."""

    def __init__(self) -> None: ...
    force: float
    torque: float

class BarrierConfig:
    """Velocity barriers at joint limits and workspace; see law_config.hpp."""

    def __init__(self) -> None: ...
    joint_braking: float
    joint_margin: float
    joint_fade: float
    workspace_braking: float
    workspace_fade: float
    distance_braking: float
    distance_margin: float
    distance_fade: float
    distance_stale_s: float

class EnergyTankConfig:
    """Bounds the energy that the controller gives to the arm."""

    def __init__(self) -> None: ...
    capacity: float
    refill_power: float

class OutputKind(enum.IntEnum):
    """What the controller commands."""

    TORQUE = 0
    MOTION = 1

class TrackingConfig:
    def __init__(self) -> None: ...
    max_acceleration: list[float]
    max_jerk: list[float]
    max_deviation: list[float]
    drive_lag_s: float
    velocity_feedback: float

class AdmittanceConfig:
    def __init__(self) -> None: ...
    sensor_frame: str
    mass: float
    inertia: float
    contact_stiffness: float
    rotational_contact_stiffness: float
    filter_s: float
    stale_s: float
    timeout_s: float
    max_velocity: float
    max_angular_velocity: float
    max_offset: float
    max_rotation_offset: float
    max_force: float
    max_torque: float

class JointMotionLimiter:
    """Position, velocity, acceleration and jerk of a joint motion."""

    def __init__(
        self,
        lower: ArrayLike,
        upper: ArrayLike,
        velocity: ArrayLike,
        acceleration: ArrayLike,
        jerk: ArrayLike,
        period: float,
    ) -> None: ...
    def reset(self, q: ArrayLike) -> None: ...
    def advance(self, dq: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(q, dq) commanded, one cycle on towards the joint velocity dq."""

    @property
    def lead(self) -> float:
        """Time by which the command trails, s."""

class ControllerConfig:
    """Settings; checked by Controller, which names what is out of range."""

    def __init__(self) -> None: ...
    def __copy__(self) -> ControllerConfig: ...
    def __deepcopy__(self, memo: dict[int, Any] | None) -> ControllerConfig: ...
    rate: float
    output: OutputKind
    tracking: TrackingConfig
    admittance: AdmittanceConfig
    translational_stiffness: list[float]
    rotational_stiffness: list[float]
    stiffness_matrix: list[float]
    stiffness_frame: StiffnessFrame
    gain_ramp_s: float
    damping_ratio: float
    task_law: TaskLawKind
    joint_stiffness: list[float]
    max_joint_error: float
    translational_frequency: float
    rotational_frequency: float
    max_position_error: float
    max_rotation_error: float
    min_task_frequency: float
    nullspace_stiffness: float
    nullspace_damping_ratio: float
    nullspace_posture: list[float]
    nullspace_speed: float
    torque_limit: list[float]
    torque_rate_limit: list[float]
    braking_torque_rate_limit: list[float]
    max_joint_velocity: list[float]
    joint_velocity_damping: float
    max_linear_velocity: float
    max_linear_acceleration: float
    max_angular_velocity: float
    max_angular_acceleration: float
    command_includes_gravity: bool | None
    effort_state: EffortState | None
    max_static_residual: list[float]
    friction: FrictionConfig
    rotor_inertia: list[float]
    jacobian_rate_feed_forward: bool
    payload: Payload
    payload_ramp_s: float
    integral: IntegralConfig
    sensing: SensingConfig
    force: ForceConfig
    wrench_limits: WrenchLimits
    barrier: BarrierConfig
    energy_tank: EnergyTankConfig
    chunk: ChunkConfig
    gripper: GripperConfig
    heartbeat_timeout_s: float
    heartbeat_fault_s: float
    joint_state_timeout_s: float
    clock_jump_periods: int
    hold_stiffness: float
    hold_damping_ratio: float
    workspace_min: list[float]
    workspace_max: list[float]

class RobotDescription:
    """What the controller needs to know of an arm."""

    def __init__(
        self,
        urdf_xml: str,
        joint_names: Sequence[str],
        base_frame: str,
        tool_frame: str,
        locked_joints: Mapping[str, float] = {},
    ) -> None: ...
    urdf_xml: str
    joint_names: list[str]
    base_frame: str
    tool_frame: str
    locked_joints: dict[str, float]

class RobotModel:
    """Rigid-body model of one arm. One object, one thread."""

    def __init__(self, description: RobotDescription) -> None: ...
    @property
    def n(self) -> int: ...
    @property
    def joint_names(self) -> list[str]: ...
    @property
    def position_lower(self) -> NDArray[np.float64]: ...
    @property
    def position_upper(self) -> NDArray[np.float64]: ...
    @property
    def velocity_limit(self) -> NDArray[np.float64]: ...
    @property
    def effort_limit(self) -> NDArray[np.float64]: ...
    def forward_kinematics(self, q: ArrayLike) -> NDArray[np.float64]:
        """4x4 pose of the tool in the base frame."""

    def jacobian(self, q: ArrayLike) -> NDArray[np.float64]:
        """6 x n, linear then angular, base axes, at the tool point."""

    def mass_matrix(self, q: ArrayLike) -> NDArray[np.float64]: ...
    def gravity(self, q: ArrayLike) -> NDArray[np.float64]:
        """Torque that carries the arm's weight, Nm."""

    def coriolis(self, q: ArrayLike, dq: ArrayLike) -> NDArray[np.float64]:
        """C(q, dq) dq, Nm."""

    def acceleration_bias(
        self, q: ArrayLike, dq: ArrayLike, include_gravity: bool = True
    ) -> NDArray[np.float64]:
        """dJ/dt dq in m/s^2 and rad/s^2, base axes; the same with and without gravity."""

    def set_payload(self, payload: Payload) -> None:
        """The load becomes part of the last link."""

    def inverse_kinematics(
        self, pose: ArrayLike, q_seed: ArrayLike
    ) -> tuple[NDArray[np.float64], bool]:
        """(q, converged): damped least squares from q_seed, within the joint limits."""

class ControllerState:
    """Snapshot; fields as vla_msgs/ControllerState."""

    @property
    def time_ns(self) -> int: ...
    @property
    def phase(self) -> Phase: ...
    @property
    def fault(self) -> Fault: ...
    @property
    def boot_id(self) -> int: ...
    @property
    def grant(self) -> int: ...
    @property
    def sequence(self) -> int: ...
    @property
    def chunk_age(self) -> float: ...
    @property
    def chunk_remaining(self) -> float: ...
    @property
    def chunk_slowdown(self) -> float: ...
    @property
    def q(self) -> NDArray[np.float64]: ...
    @property
    def dq(self) -> NDArray[np.float64]: ...
    @property
    def tau_command(self) -> NDArray[np.float64]: ...
    @property
    def tau_limit(self) -> NDArray[np.float64]: ...
    @property
    def q_command(self) -> NDArray[np.float64]: ...
    @property
    def dq_command(self) -> NDArray[np.float64]: ...
    @property
    def compliant(self) -> bool: ...
    @property
    def pose_tool_in_base(self) -> NDArray[np.float64]: ...
    @property
    def twist_tool_in_base(self) -> NDArray[np.float64]: ...
    @property
    def reference_pose_tool_in_base(self) -> NDArray[np.float64]: ...
    @property
    def reference_twist_tool_in_base(self) -> NDArray[np.float64]: ...
    @property
    def reference_acceleration_tool_in_base(self) -> NDArray[np.float64]: ...
    @property
    def reference_q(self) -> NDArray[np.float64]:
        """Of the joint-impedance law, rad; else empty."""
    @property
    def reference_dq(self) -> NDArray[np.float64]: ...
    @property
    def reference_ddq(self) -> NDArray[np.float64]: ...
    @property
    def wrench_command(self) -> NDArray[np.float64]: ...
    @property
    def gripper_opening_command(self) -> float: ...
    @property
    def gripper_max_force(self) -> float: ...
    @property
    def gripper_commanded(self) -> bool: ...
    @property
    def torque_saturated(self) -> bool: ...
    @property
    def torque_rate_saturated(self) -> bool: ...
    @property
    def wrench_saturated(self) -> bool: ...
    @property
    def stiffness_limited(self) -> bool: ...
    @property
    def heartbeat_lost(self) -> bool: ...
    @property
    def cycles(self) -> int: ...
    @property
    def chunks_accepted(self) -> int: ...
    @property
    def chunks_rejected(self) -> int: ...
    @property
    def last_reject_reason(self) -> RejectReason: ...
    @property
    def external_torque(self) -> NDArray[np.float64]:
        """Nm, observed, of the surroundings on the arm."""

    @property
    def external_wrench(self) -> NDArray[np.float64]:
        """The same as felt at the tool: N and Nm, base axes."""

    @property
    def in_contact(self) -> bool: ...
    @property
    def object_lost(self) -> bool: ...
    @property
    def payload_mass(self) -> float: ...
    @property
    def load_wrench(self) -> NDArray[np.float64]:
        """What the payload in force exerts, as carried: N and Nm, base axes."""

    @property
    def tares(self) -> int: ...
    @property
    def barrier_active(self) -> bool: ...
    @property
    def unmonitored(self) -> bool: ...
    @property
    def smallest_distance(self) -> float: ...
    @property
    def tank_energy(self) -> float: ...

class Controller:
    """Follows chunks of tool poses with a compliant arm.

    Call update() from one thread; requests take effect in the next update().
    """

    def __init__(self, description: RobotDescription, config: ControllerConfig) -> None: ...
    def activate(
        self,
        q: ArrayLike,
        dq: ArrayLike,
        time_ns: int,
        effort: ArrayLike | None = None,
        wrench: ArrayLike | None = None,
    ) -> None:
        """Resets everything and holds the arm where it is.

        Raises:
            ValueError: The joint state is no plausible one, or the measured effort is not what the
                model expects of a resting arm. With motion output: a joint is beyond its limits or
                moves, or a claimed force sensor measures nothing.
        """

    def deactivate(self) -> None: ...
    def push_chunk(self, chunk: Chunk) -> RejectReason:
        """RejectReason.NONE if accepted. The chunk is taken up by the next update."""

    def heartbeat(self, boot_id: int, grant: int, time_ns: int, owner: Owner = Owner.NONE) -> None:
        """To a policy or an operator what is under way is handed over gently."""

    def stop(self) -> None:
        """Brakes and goes to FAULT."""

    def reset(self) -> None:
        """Leaves FAULT to HOLDING, without a jump."""

    def revoke(self) -> None:
        """Drops the chunk in force and brakes to a hold."""

    def tare(self) -> None:
        """Carries what the resting arm feels as payload and bias, from then on."""

    def set_payload(self, payload: Payload) -> bool:
        """False, changing nothing, if it is no rigid body. The change is ramped."""

    def set_gains(self, gains: TaskGains) -> bool:
        """False, changing nothing, if they are out of range. The change is ramped."""

    def update(
        self, q: ArrayLike, dq: ArrayLike, time_ns: int, period_s: float
    ) -> NDArray[np.float64]:
        """Torques in Nm for one cycle."""

    def update_motion(
        self,
        q: ArrayLike,
        dq: ArrayLike,
        time_ns: int,
        period_s: float,
        wrench: ArrayLike | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(q in rad, dq in rad/s) for one cycle, with motion output."""

    def gripper_command(self) -> tuple[float, float] | None:
        """(opening in m, max_force in N), or None: leave the gripper as it is."""

    def state(self) -> ControllerState: ...
    def push_distances(
        self, time_ns: int, q: ArrayLike, distances: ArrayLike, rows: ArrayLike
    ) -> bool:
        """Distances (count,) in m at joints q, and their rows (count, joints) in m/rad.

        At most MAX_DISTANCES. False, changing nothing, if of the wrong size or not finite.
        """

    @property
    def config(self) -> ControllerConfig:
        """A copy, with all defaults filled in."""

    @property
    def description(self) -> RobotDescription: ...

class ReferenceSample:
    """A pose and its derivatives, base axes."""

    @property
    def pose(self) -> NDArray[np.float64]: ...
    @property
    def linear_velocity(self) -> NDArray[np.float64]: ...
    @property
    def angular_velocity(self) -> NDArray[np.float64]: ...
    @property
    def linear_acceleration(self) -> NDArray[np.float64]: ...
    @property
    def angular_acceleration(self) -> NDArray[np.float64]: ...

class MotionLimits:
    """What brakes and cross-fades may use."""

    def __init__(self) -> None: ...
    linear_velocity: float
    linear_acceleration: float
    angular_velocity: float
    angular_acceleration: float

class ChunkReference:
    """The reference in force, on its own."""

    def __init__(
        self,
        pose: ArrayLike,
        now_ns: int,
        limits: MotionLimits = ...,
        blend_time: float = 0.15,
        max_blend_time: float = 0.6,
    ) -> None: ...
    def follow(
        self,
        poses: ArrayLike,
        start_ns: int,
        step_dt: float,
        now_ns: int,
        limits: MotionLimits = ...,
    ) -> bool:
        """False if the blend cannot stay within the limits."""

    def brake(self, now_ns: int) -> None: ...
    def sample(self, now_ns: int) -> ReferenceSample: ...
    def at_rest(self, now_ns: int) -> bool: ...

class WaypointNoise:
    """Variance per axis, m^2 and rad^2; negative = none was seen."""
    def __init__(self) -> None: ...
    @property
    def position(self) -> float: ...
    @property
    def rotation(self) -> float: ...

def smooth_waypoints(
    poses: ArrayLike,
    step_dt: float,
    deviation: float,
    rotation_deviation: float,
    noise: WaypointNoise | None = None,
) -> list[NDArray[np.float64]]:
    """List of 4x4 poses without noise, none farther than the deviations (m, rad) from its own.

    `noise` is what the chunks before had; this one is counted.
    """

def so3_exp(phi: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrix of a rotation vector."""

def so3_log(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation vector, of norm at most pi."""

def operational_space(
    jacobian: NDArray[np.float64],
    mass_matrix: NDArray[np.float64],
    stiffness: NDArray[np.float64],
    damping_ratio: float = 1.0,
    min_frequency: float = 3.0,
    rate: float = 1e4,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(Lambda, D, K): inertia felt at the tool, damping designed for a stiffness, and what is left.

    The control rate (Hz) may not leave the whole stiffness.
    """

def project_to_nullspace(
    tau: ArrayLike, jacobian: NDArray[np.float64], mass_matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The part of a joint torque that does not accelerate the tool."""

def braking_speed(distance: float, braking: float, reaction: float) -> float:
    """Largest speed from which braking stops within the distance, after a lag."""

class TorqueLimiter:
    """Velocity, torque and torque-rate limits."""

    def __init__(
        self,
        torque: ArrayLike,
        rate: ArrayLike,
        braking_rate: ArrayLike,
        velocity: ArrayLike,
        velocity_damping: float = 0.0,
    ) -> None: ...
    def reset(self, tau: ArrayLike) -> None: ...
    def apply(
        self, tau: ArrayLike, dq: ArrayLike, mass_matrix: ArrayLike, period: float
    ) -> tuple[NDArray[np.float64], bool, bool]:
        """(torque, absolute limit was active, rate limit was active)."""

class Obstacle:
    """A box in the base frame; without a size the half space below the x-y plane of its pose."""

    def __init__(
        self,
        name: str,
        position: ArrayLike,
        size: ArrayLike | None = None,
        quat_xyzw: ArrayLike | None = None,
    ) -> None: ...
    @property
    def name(self) -> str: ...

class PairDistance:
    """A pair of bodies within the horizon."""

    @property
    def pair(self) -> int:
        """Index into CollisionMonitor.pairs."""

    @property
    def distance(self) -> float:
        """m; negative = they overlap."""

    @property
    def point_first(self) -> NDArray[np.float64]: ...
    @property
    def point_second(self) -> NDArray[np.float64]: ...
    @property
    def row(self) -> NDArray[np.float64]:
        """d(distance)/dq, m/rad."""

class CollisionMonitor:
    """Distances of an arm to itself and to its surroundings. One object, one thread."""

    def __init__(
        self,
        description: RobotDescription,
        home: ArrayLike,
        *,
        obstacles: Sequence[Obstacle] = ...,
        ignored_pairs: Sequence[tuple[str, str]] = ...,
        package_folders: Sequence[str] = ...,
        margin: float = 0.005,
        horizon: float = 0.2,
    ) -> None:
        """Reads the collision geometry of the URDF.

        Raises:
            ValueError: Geometry, obstacles or names are wrong, or a pair is nearer than `margin` at
                `home`; the message names it.
        """

    @property
    def pairs(self) -> list[tuple[str, str]]: ...
    @property
    def largest_excess(self) -> float:
        """Largest distance in m by which the body of a mesh exceeds its hull."""

    def compute(self, q: ArrayLike) -> list[PairDistance]:
        """Pairs within the horizon, the nearest first; near ones with several pairs of points."""

class CollisionThread:
    """Computes distances for a running controller in its own thread.

    The monitor belongs to that thread from then on.
    """

    def __init__(
        self, controller: Controller, monitor: CollisionMonitor, rate: float = 200.0
    ) -> None: ...
    @property
    def computed(self) -> int: ...
    @property
    def handed_over_ns(self) -> int:
        """When distances were handed over last, ns of ``time.monotonic_ns``; 0 = never."""
    @property
    def longest(self) -> float: ...
