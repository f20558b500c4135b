# SPDX-License-Identifier: Apache-2.0
"""Time, poses, twists and wrenches as messages; why a message is not converted."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, Transform, TransformStamped, Twist, Vector3, Wrench
from numpy.typing import NDArray
from std_msgs.msg import Header

FloatArray = NDArray[np.float64]

QUATERNION_TOLERANCE = 1e-3
SECOND = 1_000_000_000


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
