# SPDX-License-Identifier: Apache-2.0
"""Hand-over of a policy's chunk to the controller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import vla_control

from .types import ActionChunk


def to_control_chunk(
    chunk: ActionChunk,
    base_frame: str,
    tool_frame: str,
    joint_names: Sequence[str] = (),
    boot_id: int = 0,
    grant: int = 0,
    sequence: int = 0,
) -> vla_control.Chunk:
    """The controller's view of an action chunk.

    Args:
        chunk: Poses of ``tool_frame`` in ``base_frame``, or joint positions.
        base_frame: Name of the base frame.
        tool_frame: Name of the tool frame.
        joint_names: Of the columns of joint positions.
        boot_id: Of the supervisor that sends it.
        grant: Number of the supervisor's grant.
        sequence: Counts the chunks of a grant.
    """
    if chunk.is_joint:
        motion: dict[str, Any] = {
            "mode": vla_control.ChunkMode.JOINT_POSITION,
            "joint_names": list(joint_names),
            "joint_values": chunk.commanded,
        }
    else:
        motion = {"poses": chunk.commanded}
    return vla_control.Chunk(
        stamp_ns=chunk.stamp_ns,
        step_dt=chunk.step_dt,
        base_frame=base_frame,
        tool_frame=tool_frame,
        **motion,
        gripper_opening=chunk.gripper_opening,
        boot_id=boot_id,
        grant=grant,
        sequence=sequence,
    )
