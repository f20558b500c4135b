# SPDX-License-Identifier: Apache-2.0
"""Action chunks to messages and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vla_msgs.msg import ActionChunk
from vla_nodes.convert.geometry import (
    ConversionError,
    FloatArray,
    Reason,
    from_poses,
    from_time,
    from_twist,
    from_wrench,
    header,
    to_poses,
)


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
