# SPDX-License-Identifier: Apache-2.0
"""What a policy is given: images, joint state, gripper, tool pose and instruction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROTATION_TOLERANCE = 1e-4


class ObservationError(ValueError):
    """A part of an observation is missing or unusable.

    Attributes:
        part: What is wrong, e.g. ``camera 'wrist'``, ``q`` or ``joints``.
        reason: Why, in one line.
    """

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Observation:
    """One instant as a policy sees it. Nothing in it is privileged.

    Arrays are kept as they are given, without a copy, after they have been checked.

    Attributes:
        stamp_ns: Time the observation describes, ns of ROS time.
        images: Camera name to ``(height, width, 3)`` uint8 RGB.
        q: Joint positions ``(n,)``, rad.
        dq: Joint velocities ``(n,)``, rad/s.
        gripper_opening: Distance between the finger pads, m.
        instruction: What the policy shall do; empty if none is in force.
        pose_tool_in_base: Homogeneous ``(4, 4)`` pose of the tool frame in the base frame, m.

    Raises:
        ObservationError: At construction, if any of these does not hold.
    """

    stamp_ns: int
    images: Mapping[str, NDArray[np.uint8]]
    q: NDArray[np.floating]
    dq: NDArray[np.floating]
    gripper_opening: float
    instruction: str
    pose_tool_in_base: NDArray[np.floating]

    def __post_init__(self) -> None:
        if isinstance(self.stamp_ns, bool) or not isinstance(self.stamp_ns, int | np.integer):
            raise ObservationError("stamp_ns", f"is {type(self.stamp_ns).__name__}, not an int")
        if self.stamp_ns < 0:
            raise ObservationError("stamp_ns", f"is negative ({self.stamp_ns} ns)")
        if not isinstance(self.images, Mapping):
            raise ObservationError("images", "is not a mapping from camera name to array")
        for camera, image in self.images.items():
            _check_image(camera, image)
        _check_vector("q", self.q)
        _check_vector("dq", self.dq)
        if self.q.shape != self.dq.shape:
            raise ObservationError(
                "dq", f"has {self.dq.shape[0]} values where q has {self.q.shape[0]}"
            )
        if isinstance(self.gripper_opening, bool) or not isinstance(
            self.gripper_opening, int | float | np.floating | np.integer
        ):
            raise ObservationError(
                "gripper_opening", f"is {type(self.gripper_opening).__name__}, not a number"
            )
        if not np.isfinite(self.gripper_opening):
            raise ObservationError("gripper_opening", f"is {self.gripper_opening}")
        if not isinstance(self.instruction, str):
            raise ObservationError(
                "instruction", f"is {type(self.instruction).__name__}, not a string"
            )
        check_pose("pose_tool_in_base", self.pose_tool_in_base)


def _check_image(camera: str, image: object) -> None:
    part = f"camera {camera!r}"
    if not isinstance(image, np.ndarray):
        raise ObservationError(part, f"is {type(image).__name__}, not a numpy array")
    if image.dtype != np.uint8:
        raise ObservationError(part, f"has dtype {image.dtype}, expected uint8")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ObservationError(
            part, f"has shape {image.shape}, expected (height, width, 3) in RGB order"
        )
    if image.size == 0:
        raise ObservationError(part, f"is empty, shape {image.shape}")


def _check_vector(part: str, values: object) -> None:
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        kind = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise ObservationError(part, f"is {kind}, expected a numpy array of floats")
    if values.ndim != 1 or values.size == 0:
        raise ObservationError(part, f"has shape {values.shape}, expected (joints,)")
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ObservationError(part, f"is {values[bad]} at joint {bad}")


def check_pose(part: str, pose: object) -> None:
    """Checks that a matrix is a rigid transformation.

    Args:
        part: Name for the error.
        pose: Homogeneous matrix, expected ``(4, 4)`` of floats, m.

    Raises:
        ObservationError: If it is not.
    """
    if not isinstance(pose, np.ndarray) or pose.dtype.kind != "f":
        kind = pose.dtype if isinstance(pose, np.ndarray) else type(pose).__name__
        raise ObservationError(part, f"is {kind}, expected a numpy array of floats")
    if pose.shape != (4, 4):
        raise ObservationError(part, f"has shape {pose.shape}, expected (4, 4)")
    if not np.isfinite(pose).all():
        raise ObservationError(part, "has a value that is not finite")
    # In Python's numbers: NumPy's calls on nine values take ten times as long.
    (a, b, c, _), (d, e, f, _), (g, h, i, _), last = pose.tolist()
    if last != [0.0, 0.0, 0.0, 1.0]:
        raise ObservationError(part, f"has the last row {last}, expected 0 0 0 1")
    lengths = (a * a + b * b + c * c, d * d + e * e + f * f, g * g + h * h + i * i)
    products = (a * d + b * e + c * f, a * g + b * h + c * i, d * g + e * h + f * i)
    error = max(*(abs(length - 1.0) for length in lengths), *map(abs, products))
    if error > ROTATION_TOLERANCE:
        raise ObservationError(part, f"has a rotation that is off orthonormal by {error:.2g}")
    if a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g) < 0.0:
        raise ObservationError(part, "has a reflection where a rotation belongs")
