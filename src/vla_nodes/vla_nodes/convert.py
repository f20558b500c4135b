# SPDX-License-Identifier: Apache-2.0
"""All conversions between messages and the types of the cores.

Conversions from messages fail closed: they raise :class:`ConversionError` with a named reason and
never repair a value. Quaternions are xyzw, as in the messages; poses are homogeneous 4x4 matrices.
"""

from __future__ import annotations

import array
import enum
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, Transform, TransformStamped, Twist, Vector3, Wrench
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Header

from vla_data import images
from vla_msgs.msg import (
    ActionChunk,
    ControllerState,
    ControlOwner,
    EpisodeEvent,
    Outcome,
    TaskStatus,
)
from vla_nodes import supervision, supervision_types
from vla_nodes.camera_source import Calibration

FloatArray = NDArray[np.float64]

QUATERNION_TOLERANCE = 1e-3
SECOND = 1_000_000_000

EnumT = TypeVar("EnumT", bound=enum.IntEnum)


class Reason(enum.Enum):
    """Why a message was not converted."""

    WRONG_FRAME = "wrong frame"
    WRONG_LENGTH = "wrong length"
    NOT_FINITE = "not finite"
    BAD_QUATERNION = "bad quaternion"
    BAD_STEP = "bad step"
    UNSUPPORTED_MODE = "unsupported mode"


class ConversionError(ValueError):
    """A message that cannot be converted; ``reason`` is for counting, the text for people."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(f"{reason.value}: {text}")
        self.reason = reason


def to_time(stamp_ns: int) -> Time:
    """ROS time in ns as a message."""
    return Time(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)


def from_time(time: Time) -> int:
    """A message's time as ns."""
    return int(time.sec) * SECOND + int(time.nanosec)


def header(stamp_ns: int, frame_id: str = "") -> Header:
    """A header with a stamp in ns of ROS time."""
    return Header(stamp=to_time(stamp_ns), frame_id=frame_id)


def matrix_to_quat_xyzw(rotation: FloatArray) -> FloatArray:
    """Unit quaternion (x, y, z, w) of a 3x3 rotation, by the largest of its four squares."""
    r = rotation
    trace = r[0, 0] + r[1, 1] + r[2, 2]
    squares = np.array([r[0, 0], r[1, 1], r[2, 2], trace])
    k = int(np.argmax(squares))
    quat = np.empty(4)
    if k == 3:
        quat[:] = (r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], 1.0 + trace)
    else:
        i, j, m = k, (k + 1) % 3, (k + 2) % 3
        quat[i] = 1.0 - trace + 2.0 * r[i, i]
        quat[j] = r[j, i] + r[i, j]
        quat[m] = r[m, i] + r[i, m]
        quat[3] = r[m, j] - r[j, m]
    return quat / np.linalg.norm(quat)


def quat_xyzw_to_matrix(quat: FloatArray) -> FloatArray:
    """3x3 rotation of a unit quaternion (x, y, z, w); of N of them, (4, N) to (3, 3, N)."""
    x, y, z, w = quat
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _fill_quaternion(orientation: Any, quat: FloatArray) -> None:
    orientation.x, orientation.y, orientation.z, orientation.w = quat.tolist()


def to_pose(pose: FloatArray) -> Pose:
    """A homogeneous 4x4 matrix as a message."""
    message = Pose()
    message.position.x, message.position.y, message.position.z = pose[:3, 3].tolist()
    _fill_quaternion(message.orientation, matrix_to_quat_xyzw(pose[:3, :3]))
    return message


def to_poses(poses: FloatArray) -> list[Pose]:
    """Poses (steps, 4, 4) as messages, whose quaternions are continuous from step to step."""
    from scipy.spatial.transform import Rotation  # most of those who convert do without

    quats = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    # Neighbours on the same half of the sphere, so that the series is continuous to a reader.
    turned = np.sum(quats[1:] * quats[:-1], axis=-1) < 0.0
    quats[1:] *= np.cumprod(np.where(turned, -1.0, 1.0))[:, None]
    messages = []
    for position, quat in zip(poses[:, :3, 3].tolist(), quats.tolist(), strict=True):
        message = Pose()
        message.position.x, message.position.y, message.position.z = position
        o = message.orientation
        o.x, o.y, o.z, o.w = quat
        messages.append(message)
    return messages


def from_pose(message: Pose) -> FloatArray:
    """A pose message as a homogeneous 4x4 matrix.

    Raises:
        ConversionError: NOT_FINITE or BAD_QUATERNION.
    """
    p, o = message.position, message.orientation
    values = np.array([p.x, p.y, p.z, o.x, o.y, o.z, o.w])
    if not np.isfinite(values).all():
        raise ConversionError(Reason.NOT_FINITE, "a pose has NaN or infinite values")
    norm = float(np.linalg.norm(values[3:]))
    if abs(norm - 1.0) > QUATERNION_TOLERANCE:
        raise ConversionError(Reason.BAD_QUATERNION, f"a quaternion has the norm {norm:.4g}")
    pose = np.eye(4)
    pose[:3, :3] = quat_xyzw_to_matrix(values[3:] / norm)
    pose[:3, 3] = values[:3]
    return pose


def from_poses(messages: Sequence[Pose]) -> FloatArray:
    """Pose messages as homogeneous matrices (steps, 4, 4); see ``from_pose``."""
    rows = []
    for message in messages:
        p, o = message.position, message.orientation
        rows.append((p.x, p.y, p.z, o.x, o.y, o.z, o.w))
    values = np.array(rows, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ConversionError(Reason.NOT_FINITE, "a pose has NaN or infinite values")
    norms = np.linalg.norm(values[:, 3:], axis=1)
    wrong = np.abs(norms - 1.0) > QUATERNION_TOLERANCE
    if wrong.any():
        norm = norms[wrong][0]
        raise ConversionError(Reason.BAD_QUATERNION, f"a quaternion has the norm {norm:.4g}")
    poses = np.zeros((len(values), 4, 4))
    poses[:, :3, :3] = np.moveaxis(quat_xyzw_to_matrix(values[:, 3:].T / norms), -1, 0)
    poses[:, :3, 3] = values[:, :3]
    poses[:, 3, 3] = 1.0
    return poses


def _vector(values: Sequence[float]) -> Vector3:
    x, y, z = (float(value) for value in values)
    return Vector3(x=x, y=y, z=z)


def to_twist(twist: Sequence[float]) -> Twist:
    """(linear, angular), m/s and rad/s, as a message."""
    return Twist(linear=_vector(twist[:3]), angular=_vector(twist[3:]))


def from_twist(twist: Twist) -> FloatArray:
    """(6,) m/s and rad/s of a message, linear then angular."""
    v, w = twist.linear, twist.angular
    return np.array([v.x, v.y, v.z, w.x, w.y, w.z], dtype=np.float64)


def to_wrench(wrench: Sequence[float]) -> Wrench:
    """(force, torque), N and Nm, as a message."""
    return Wrench(force=_vector(wrench[:3]), torque=_vector(wrench[3:]))


def from_wrench(wrench: Wrench) -> FloatArray:
    """(6,) force in N and torque in Nm of a message."""
    force, torque = wrench.force, wrench.torque
    return np.array([force.x, force.y, force.z, torque.x, torque.y, torque.z], dtype=np.float64)


def to_transform(stamp_ns: int, parent: str, child: str, pose: FloatArray) -> TransformStamped:
    """The pose of ``child`` in ``parent`` as a transform."""
    transform = Transform(translation=_vector(pose[:3, 3]))
    _fill_quaternion(transform.rotation, matrix_to_quat_xyzw(pose[:3, :3]))
    return TransformStamped(
        header=header(stamp_ns, parent), child_frame_id=child, transform=transform
    )


def to_joint_state(
    stamp_ns: int,
    names: Sequence[str],
    position: Sequence[float],
    velocity: Sequence[float],
    effort: Sequence[float] = (),
) -> JointState:
    """Joint values, rad or m and per second, as a message."""
    return JointState(
        header=header(stamp_ns),
        name=list(names),
        position=[float(value) for value in position],
        velocity=[float(value) for value in velocity],
        effort=[float(value) for value in effort],
    )


def _byte_array(data: bytes | memoryview) -> array.array[int]:
    # Six times faster than to hand the bytes to the constructor.
    filled = array.array("B")
    filled.frombytes(data)
    return filled


def to_image(stamp_ns: int, frame_id: str, rgb: NDArray[np.uint8]) -> Image:
    """An RGB image (height, width, 3) as a message."""
    fields = images.encode(rgb, "rgb8")
    message = Image(header=header(stamp_ns, frame_id), encoding=fields.encoding)
    message.height, message.width, message.step = fields.height, fields.width, fields.step
    message.data = _byte_array(fields.data)
    return message


def to_compressed_image(
    stamp_ns: int, frame_id: str, rgb: NDArray[np.uint8], quality: int
) -> CompressedImage:
    """An RGB image (height, width, 3) as a JPEG message."""
    data = _byte_array(images.encode_jpeg(rgb, quality))
    return CompressedImage(header=header(stamp_ns, frame_id), format="jpeg", data=data)


def pinhole(width: int, height: int, vertical_fov: float) -> CameraInfo:
    """Camera parameters of an ideal pinhole with square pixels; ``vertical_fov`` in rad."""
    focal = 0.5 * height / np.tan(0.5 * vertical_fov)
    cx, cy = 0.5 * width, 0.5 * height
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
    message.d = [0.0] * 5
    message.k = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def to_camera_info(
    stamp_ns: int, frame_id: str, width: int, height: int, calibration: Calibration | None
) -> CameraInfo:
    """A calibration as a message. Without one, K stays zero, which means uncalibrated."""
    message = CameraInfo(header=header(stamp_ns, frame_id), width=width, height=height)
    if calibration is not None:
        message.distortion_model = calibration.distortion_model
        message.d = list(calibration.d)
        message.k = list(calibration.k)
        message.r = list(calibration.r)
        message.p = list(calibration.p)
    return message


def to_action_chunk(
    chunk: Any,
    *,
    base_frame: str,
    tool_frame: str,
    joint_names: Sequence[str],
    sequence: int,
    instruction_id: int,
) -> ActionChunk:
    """A ``vla_policy`` chunk as a message, not granted yet.

    Args:
        chunk: Of absolute poses of ``tool_frame`` or of joint positions.
        base_frame: Frame of the poses.
        tool_frame: That is commanded.
        joint_names: Of the columns of joint positions.
        sequence: Counts the chunks.
        instruction_id: Instruction in force when the observation was taken.
    """
    message = ActionChunk(header=header(int(chunk.stamp_ns), base_frame), tool_frame=tool_frame)
    message.sequence = sequence
    message.inference_id = int(chunk.inference_id)
    message.policy_id = str(chunk.policy_id)
    message.instruction_id = instruction_id
    message.step_dt = float(chunk.step_dt)
    message.conditioned_steps = int(chunk.conditioned_steps)
    message.gripper_opening = [float(value) for value in chunk.gripper_opening]
    if chunk.is_joint:
        message.mode = ActionChunk.MODE_JOINT_POSITION
        message.joint_names = list(joint_names)
        message.joint_values = [float(value) for value in chunk.commanded.ravel()]
    else:
        message.mode = ActionChunk.MODE_POSE
        message.poses = to_poses(np.asarray(chunk.commanded, dtype=np.float64))
    return message


def to_joint_chunk(
    stamp_ns: int,
    values: FloatArray,
    *,
    joint_names: Sequence[str],
    step_dt: float,
    base_frame: str,
    tool_frame: str,
    sequence: int,
    policy_id: str,
) -> ActionChunk:
    """Joint positions (steps, joints), rad, as a message, not granted yet."""
    message = ActionChunk(header=header(stamp_ns, base_frame), tool_frame=tool_frame)
    message.sequence, message.policy_id = sequence, policy_id
    message.mode = ActionChunk.MODE_JOINT_POSITION
    message.step_dt = step_dt
    message.joint_names = list(joint_names)
    message.joint_values = [float(value) for value in np.asarray(values).ravel()]
    return message


def _motion(message: ActionChunk) -> tuple[int, dict[str, Any]]:
    """Number of steps, and what of a chunk says where to go, for ``vla_control.Chunk``."""
    filled = {
        ActionChunk.MODE_POSE: len(message.poses),
        ActionChunk.MODE_JOINT_POSITION: len(message.joint_names) + len(message.joint_values),
        ActionChunk.MODE_TWIST: len(message.twists),
    }
    if any(count and mode != message.mode for mode, count in filled.items()):
        raise ConversionError(
            Reason.UNSUPPORTED_MODE, f"mode {message.mode} with values of another mode"
        )
    if message.mode == ActionChunk.MODE_POSE:
        if not message.poses:
            raise ConversionError(Reason.WRONG_LENGTH, "no poses")
        return len(message.poses), {"poses": from_poses(message.poses)}
    # Loads pinocchio, which most of those who convert do not need.
    from vla_control import ChunkMode

    if message.mode == ActionChunk.MODE_TWIST:
        if not message.twists:
            raise ConversionError(Reason.WRONG_LENGTH, "no twists")
        twists = np.array([from_twist(twist) for twist in message.twists])
        if not np.isfinite(twists).all():
            raise ConversionError(Reason.NOT_FINITE, "a twist has NaN or infinite values")
        return len(twists), {"mode": ChunkMode.TWIST, "twists": twists}
    if message.mode != ActionChunk.MODE_JOINT_POSITION:
        raise ConversionError(
            Reason.UNSUPPORTED_MODE,
            f"mode {message.mode}; only MODE_POSE, MODE_JOINT_POSITION and MODE_TWIST",
        )
    names, values = list(message.joint_names), np.array(message.joint_values, dtype=np.float64)
    if not names or not len(values) or len(values) % len(names):
        raise ConversionError(
            Reason.WRONG_LENGTH, f"{len(values)} joint_values for {len(names)} joints"
        )
    if not np.isfinite(values).all():
        raise ConversionError(Reason.NOT_FINITE, "joint_values has NaN or infinite values")
    rows = values.reshape(-1, len(names))
    motion = {"mode": ChunkMode.JOINT_POSITION, "joint_names": names, "joint_values": rows}
    return len(rows), motion


def from_action_chunk(message: ActionChunk, *, base_frame: str, tool_frame: str) -> Any:
    """A chunk message as a ``vla_control.Chunk``; its stamp stays ROS time.

    Raises:
        ConversionError: With the reason; the controller checks times, grants and ranges itself.
    """
    for what, got, expected in (
        ("poses", message.header.frame_id, base_frame),
        ("the tool", message.tool_frame, tool_frame),
    ):
        if got != expected:
            raise ConversionError(
                Reason.WRONG_FRAME, f"{what} in frame {got!r}, expected {expected!r}"
            )
    if not np.isfinite(message.step_dt) or message.step_dt <= 0.0:
        raise ConversionError(Reason.BAD_STEP, f"step_dt is {message.step_dt} s")
    count, motion = _motion(message)
    for name in ("gripper_opening", "gripper_max_force"):
        values = np.asarray(getattr(message, name))
        if len(values) not in (0, count):
            raise ConversionError(Reason.WRONG_LENGTH, f"{len(values)} {name} for {count} steps")
        if not np.isfinite(values).all():
            raise ConversionError(Reason.NOT_FINITE, f"{name} has NaN or infinite values")
    if len(message.wrenches) not in (0, count):
        raise ConversionError(
            Reason.WRONG_LENGTH, f"{len(message.wrenches)} wrenches for {count} steps"
        )
    wrenches = np.array([from_wrench(wrench) for wrench in message.wrenches]).reshape(-1, 6)
    if not np.isfinite(wrenches).all():
        raise ConversionError(Reason.NOT_FINITE, "wrenches has NaN or infinite values")
    values = np.asarray(message.stiffness, dtype=np.float64)
    if len(values) not in (0, 36 * count):
        raise ConversionError(
            Reason.WRONG_LENGTH, f"{len(values)} stiffness values for {count} steps"
        )
    if not np.isfinite(values).all():
        raise ConversionError(Reason.NOT_FINITE, "stiffness has NaN or infinite values")
    import vla_control  # here for the same reason

    return vla_control.Chunk(
        stamp_ns=from_time(message.header.stamp),
        step_dt=message.step_dt,
        base_frame=message.header.frame_id,
        tool_frame=message.tool_frame,
        **motion,
        gripper_opening=np.array(message.gripper_opening, dtype=np.float64),
        gripper_max_force=np.array(message.gripper_max_force, dtype=np.float64),
        boot_id=message.boot_id,
        grant=message.grant,
        sequence=message.sequence,
        wrenches=wrenches,
        stiffness=values.reshape(-1, 6, 6),
    )


def to_pose_chunk(
    stamp_ns: int, poses: FloatArray, *, step_dt: float, base_frame: str, tool_frame: str
) -> ActionChunk:
    """Tool poses (steps, 4, 4) as a message, not granted yet; the gripper stays as it is."""
    message = ActionChunk(header=header(stamp_ns, base_frame), tool_frame=tool_frame)
    message.mode, message.step_dt, message.poses = ActionChunk.MODE_POSE, step_dt, to_poses(poses)
    return message


def to_controller_state(
    state: Any, stamp_ns: int, base_frame: str, tool_frame: str, joint_names: Sequence[str]
) -> ControllerState:
    """A ``vla_control.ControllerState`` as a message."""
    message = ControllerState(header=header(stamp_ns, base_frame), tool_frame=tool_frame)
    for name in ("phase", "fault", "boot_id", "grant", "sequence", "cycles"):
        setattr(message, name, int(getattr(state, name)))
    for name in ("chunks_accepted", "chunks_rejected", "last_reject_reason"):
        setattr(message, name, int(getattr(state, name)))
    for name in (
        "chunk_age",
        "chunk_remaining",
        "chunk_slowdown",
        "gripper_opening_command",
        "gripper_max_force",
    ):
        setattr(message, name, float(getattr(state, name)))
    for name in (
        "torque_saturated",
        "torque_rate_saturated",
        "wrench_saturated",
        "stiffness_limited",
        "in_contact",
        "object_lost",
        "unmonitored",
        "gripper_commanded",
        "compliant",
    ):
        setattr(message, name, bool(getattr(state, name)))
    message.smallest_distance = float(state.smallest_distance)
    message.joint_names = list(joint_names)
    joint_arrays = ("q", "dq", "tau_command", "tau_limit", "q_command", "dq_command")
    for name in (*joint_arrays, "external_torque"):
        setattr(message, name, [float(value) for value in getattr(state, name)])
    message.pose_tool_in_base = to_pose(state.pose_tool_in_base)
    message.twist_tool_in_base = to_twist(state.twist_tool_in_base)
    message.reference_pose_tool_in_base = to_pose(state.reference_pose_tool_in_base)
    message.reference_twist_tool_in_base = to_twist(state.reference_twist_tool_in_base)
    message.wrench_command = to_wrench(state.wrench_command)
    message.external_wrench = to_wrench(state.external_wrench)
    return message


def known(kind: type[EnumT], number: int, otherwise: EnumT) -> EnumT:
    """An enumerator by its number; ``otherwise`` for a number that this version does not know."""
    try:
        return kind(number)
    except ValueError:
        return otherwise


def to_control_owner(core: supervision.Supervisor, stamp_ns: int) -> ControlOwner:
    """Who owns the arm, as a heartbeat."""
    return ControlOwner(
        header=header(stamp_ns),
        boot_id=core.boot_id,
        grant=core.grant,
        owner=int(core.owner),
        state=int(core.state),
        instruction=core.instruction,
        instruction_id=core.instruction_id,
        episode_id=core.task.episode_id if core.task else "",
        task=core.task.goal.task if core.task else "",
        reason=core.reason,
    )


def to_outcome(outcome: supervision_types.Outcome | None) -> Outcome:
    """An outcome as a message; None is UNKNOWN."""
    if outcome is None:
        return Outcome()
    return Outcome(
        outcome=int(outcome.verdict), outcome_source=int(outcome.source), message=outcome.message
    )


def to_episode_event(event: supervision_types.Event) -> EpisodeEvent:
    """An event of the supervisor as a message."""
    message = EpisodeEvent(header=header(event.stamp_ns), event=int(event.kind), text=event.text)
    if event.task is not None:
        message.episode_id = event.task.episode_id
        message.task = event.task.goal.task
        message.seed = event.task.goal.seed
        message.instruction = event.task.goal.instruction
        if event.kind is supervision_types.EventKind.END:
            message.outcome = to_outcome(event.task.outcome)
    return message


def to_task_status(
    stamp_ns: int,
    *,
    episode_id: str,
    task: str,
    seed: int,
    success: bool,
    elapsed: float,
    details: str,
) -> TaskStatus:
    """The simulator's verdict on its task as a message; ``elapsed`` in s."""
    message = TaskStatus(header=header(stamp_ns), episode_id=episode_id, task=task, seed=seed)
    if success:
        message.outcome = Outcome(
            outcome=Outcome.SUCCESS, outcome_source=Outcome.SOURCE_SIMULATOR, message=details
        )
    message.elapsed = elapsed
    message.details = details
    return message
