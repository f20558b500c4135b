# SPDX-License-Identifier: Apache-2.0
"""The robot's own state as the nano π0 sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .poses import POSE_NAMES, pose_to_vector
from .types import Array, RobotState


def state_names(joint_names: Sequence[str]) -> tuple[str, ...]:
    """Entries of the encoded state.

    The tool pose is the forward kinematics of ``q``: the same information in the coordinates in
    which the actions are expressed, so that the network need not learn the arm's kinematics.
    """
    return (
        *(f"q/{name}" for name in joint_names),
        *(f"dq/{name}" for name in joint_names),
        "gripper_opening",
        *(f"forward_kinematics/{name}" for name in POSE_NAMES),
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
