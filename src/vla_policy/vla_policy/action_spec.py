# SPDX-License-Identifier: Apache-2.0
"""The policy's own representation of actions and state, and its conversion to poses.

An action is the commanded tool pose relative to the *observed* one, ``T_obs^-1 T_cmd``:
translation (m, in the observed tool frame), the first two columns of the rotation matrix
(Zhou et al., 2019, "On the Continuity of Rotation Representations in Neural Networks") and the
gripper's opening (m).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .types import Array, RobotState

ACTION_NAMES = ("x", "y", "z", "r00", "r10", "r20", "r01", "r11", "r21", "gripper_opening")
ACTION_DIM = len(ACTION_NAMES)
POSE_DIM = 9


def rotation_to_6d(rotation: npt.NDArray[np.float64]) -> Array:
    """First two columns of rotation matrices (..., 3, 3), as (..., 6)."""
    return np.concatenate([rotation[..., :, 0], rotation[..., :, 1]], axis=-1)


def rotation_from_6d(columns: npt.NDArray[np.float64]) -> Array:
    """Gram-Schmidt: rotation matrices (..., 3, 3) from two columns (..., 6).

    Raises:
        ValueError: If the two columns are zero or parallel, so that no rotation follows.
    """
    first, second = columns[..., :3], columns[..., 3:6]
    length = np.linalg.norm(first, axis=-1, keepdims=True)
    x = first / np.where(length > 1e-6, length, np.nan)
    y = second - np.sum(x * second, axis=-1, keepdims=True) * x
    length = np.linalg.norm(y, axis=-1, keepdims=True)
    y = y / np.where(length > 1e-6, length, np.nan)
    rotation: Array = np.stack([x, y, np.cross(x, y)], axis=-1)
    if not np.all(np.isfinite(rotation)):
        raise ValueError("the 6-D rotation is degenerate: its columns are zero or parallel")
    return rotation


def pose_to_vector(pose: npt.NDArray[np.float64]) -> Array:
    """Translation and 6-D rotation (..., 9) of homogeneous matrices (..., 4, 4)."""
    return np.concatenate([pose[..., :3, 3], rotation_to_6d(pose[..., :3, :3])], axis=-1)


def vector_to_pose(vector: npt.NDArray[np.float64]) -> Array:
    """Homogeneous matrices (..., 4, 4) of translation and 6-D rotation (..., 9)."""
    pose = np.zeros((*vector.shape[:-1], 4, 4))
    pose[..., :3, :3] = rotation_from_6d(vector[..., 3:9])
    pose[..., :3, 3] = vector[..., :3]
    pose[..., 3, 3] = 1.0
    return pose


def invert_pose(pose: npt.NDArray[np.float64]) -> Array:
    """Inverse of homogeneous matrices (..., 4, 4)."""
    inverse = np.zeros_like(pose)
    transposed = np.swapaxes(pose[..., :3, :3], -1, -2)
    inverse[..., :3, :3] = transposed
    inverse[..., :3, 3] = -(transposed @ pose[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse


class ActionSpec:
    """Conversion between absolute chunks and relative action vectors."""

    dim = ACTION_DIM
    names = ACTION_NAMES

    def encode(
        self,
        pose_tool_in_base: npt.NDArray[np.float64],
        chunk_poses: npt.NDArray[np.float64],
        chunk_gripper: npt.NDArray[np.float64],
    ) -> Array:
        """Relative actions of absolute commanded poses.

        Args:
            pose_tool_in_base: (..., 4, 4) observed tool pose.
            chunk_poses: (..., H, 4, 4) commanded tool poses in the base frame.
            chunk_gripper: (..., H) commanded openings, m.

        Returns:
            (..., H, 10) actions.
        """
        relative = invert_pose(pose_tool_in_base)[..., None, :, :] @ chunk_poses
        return np.concatenate([pose_to_vector(relative), chunk_gripper[..., None]], axis=-1)

    def decode(
        self, pose_tool_in_base: npt.NDArray[np.float64], actions: npt.NDArray[np.float64]
    ) -> tuple[Array, Array]:
        """Absolute poses (..., H, 4, 4) and openings (..., H) of actions (..., H, 10).

        Raises:
            ValueError: If a rotation is degenerate.
        """
        relative = vector_to_pose(actions[..., :POSE_DIM])
        return pose_tool_in_base[..., None, :, :] @ relative, actions[..., POSE_DIM].copy()


def state_names(joint_names: Sequence[str]) -> tuple[str, ...]:
    """Entries of the encoded state.

    The tool pose is the forward kinematics of ``q``: the same information in the coordinates in
    which the actions are expressed, so that the network need not learn the arm's kinematics.
    """
    return (
        *(f"q/{name}" for name in joint_names),
        *(f"dq/{name}" for name in joint_names),
        "gripper_opening",
        *(f"forward_kinematics/{name}" for name in ACTION_NAMES[:POSE_DIM]),
    )


def encode_states(
    q: npt.NDArray[np.float64],
    dq: npt.NDArray[np.float64],
    gripper_opening: npt.NDArray[np.float64],
    pose_tool_in_base: npt.NDArray[np.float64],
) -> Array:
    """Encoded states (..., 2n + 10) from (..., n), (..., n), (...) and (..., 4, 4)."""
    return np.concatenate(
        [q, dq, gripper_opening[..., None], pose_to_vector(pose_tool_in_base)], axis=-1
    )


def encode_state(state: RobotState) -> Array:
    """Encoded state (2n + 10,) of one robot state."""
    return encode_states(
        state.q, state.dq, np.asarray(state.gripper_opening), state.pose_tool_in_base
    )
