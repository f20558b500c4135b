# SPDX-License-Identifier: Apache-2.0
"""Conversions between messages and the types of failure detection; see ``convert``."""

from __future__ import annotations

import array
import math
from typing import Any

import numpy as np

from vla_failure.binding import Binding
from vla_failure.decision import Decision
from vla_failure.episodes import aggregate_features, chunk_array
from vla_failure.reaction import ArmState
from vla_msgs.msg import ActionChunk, ControllerState, ControlOwner, FailureStatus, PolicyFeatures
from vla_nodes import convert
from vla_nodes.judging import Judging, Seen, Turn
from vla_nodes.supervision.detection import Word
from vla_nodes.supervision.policy_time import valid_speed
from vla_nodes.supervision.types import State
from vla_policy.state_encoding import encode_state

AT_REST = 0.01  # rad/s


def to_policy_features(
    chunk: Any,
    sent: ActionChunk,
    *,
    state: Any,
    running: Binding,
    encode_latency: float,
    act_latency: float,
    context_age: float = 0.0,
) -> PolicyFeatures:
    """What a failure detector needs of an inference.

    Args:
        chunk: A ``vla_policy`` chunk, with its features.
        sent: The same as a message.
        state: A ``vla_policy.RobotState``, or an observation, that the chunk starts from.
        running: How the policy is run.
        encode_latency: s.
        act_latency: s.
        context_age: s.
    """
    message = PolicyFeatures(header=convert.header(int(chunk.stamp_ns)))
    message.policy_id = str(chunk.policy_id)
    message.inference_id, message.sequence = sent.inference_id, sent.sequence
    message.instruction_id = sent.instruction_id
    message.chunk = sent
    message.feature_name = running.feature_name
    message.shape = [int(n) for n in np.shape(chunk.features)]
    message.values = _float_array(chunk.features)
    message.state = _float_array(encode_state(state))
    message.sampler, message.schedule = running.sampler, running.schedule
    message.execute_steps, message.latency = running.execute_steps, running.latency_s
    message.cameras = list(running.cameras)
    message.image_size, message.robot = running.image_size, running.robot
    message.encode_latency = encode_latency
    message.act_latency = act_latency
    message.context_age = context_age
    return message


def _float_array(values: Any) -> array.array[float]:
    filled = array.array("f")
    filled.frombytes(memoryview(np.ascontiguousarray(values, dtype=np.float32)).cast("B"))
    return filled


def from_policy_features(message: PolicyFeatures) -> Seen:
    """An inference as a failure detector sees it.

    Raises:
        ConversionError: WRONG_LENGTH, or what is wrong with its chunk.
    """
    shape = tuple(int(n) for n in message.shape)
    if len(shape) != 3 or 0 in shape or math.prod(shape) != len(message.values):
        raise convert.ConversionError(
            convert.Reason.WRONG_LENGTH,
            f"{len(message.values)} features of shape {shape}; valid: three axes",
        )
    sent = message.chunk
    if sent.mode != ActionChunk.MODE_POSE or not sent.poses:
        raise convert.ConversionError(
            convert.Reason.UNSUPPORTED_MODE,
            f"a chunk of mode {sent.mode}; detectors look at poses",
        )
    if len(sent.gripper_opening) != len(sent.poses):
        raise convert.ConversionError(
            convert.Reason.WRONG_LENGTH,
            f"{len(sent.gripper_opening)} openings for {len(sent.poses)} poses",
        )
    return Seen(
        stamp_ns=convert.from_time(message.header.stamp),
        instruction_id=message.instruction_id,
        sequence=message.sequence,
        inference_id=message.inference_id,
        running=Binding(
            policy_id=message.policy_id,
            feature_name=message.feature_name,
            feature_shape=shape,
            sampler=message.sampler,
            schedule=message.schedule,
            execute_steps=message.execute_steps,
            step_dt=sent.step_dt,
            latency_s=message.latency,
            cameras=tuple(message.cameras),
            image_size=message.image_size,
            robot=message.robot,
        ),
        features=aggregate_features(np.array(message.values, np.float32).reshape(shape)),
        chunk=chunk_array(convert.from_poses(sent.poses), np.array(sent.gripper_opening)),
        state=np.array(message.state, np.float32),
    )


def to_failure_status(judging: Judging, detector_id: str) -> FailureStatus:
    """What a failure detector says."""
    status, turn = judging.status, judging.turn
    message = FailureStatus(
        header=convert.header(judging.stamp_ns), inference_id=judging.inference_id
    )
    if turn is not None:
        message.boot_id, message.grant = turn.boot_id, turn.grant
        message.episode_id = turn.episode_id
    message.detector_id = detector_id
    for name in ("calibration_id", "step", "score", "threshold", "margin", "alpha"):
        setattr(message, name, getattr(status, name))
    for name in ("guarantee", "drift_p", "latency", "reason"):
        setattr(message, name, getattr(status, name))
    message.signal_names = list(status.signals)
    message.signal_values = [float(value) for value in status.signals.values()]
    message.verdict = int(status.decision)
    return message


def from_failure_status(message: FailureStatus) -> Word:
    """What the supervisor hears of it; a verdict that it does not know is ABSTAIN."""
    return Word(
        boot_id=message.boot_id,
        grant=message.grant,
        decision=convert.known(Decision, message.verdict, Decision.ABSTAIN),
        reason=message.reason,
        margin=message.margin,
        stamp_ns=convert.from_time(message.header.stamp),
    )


def from_control_owner(message: ControlOwner) -> Turn:
    """What failure_node hears of the supervisor's heartbeat."""
    return Turn(
        stamp_ns=convert.from_time(message.header.stamp),
        boot_id=message.boot_id,
        grant=message.grant,
        state=convert.known(State, message.state, State.FAULT),
        instruction_id=message.instruction_id,
        episode_id=message.episode_id,
        task=message.task,
        speed=valid_speed(message.speed),
    )


def to_arm_state(message: ControllerState) -> ArmState:
    """What the reaction to a detector wants to know of the arm.

    Raises:
        ConversionError: NOT_FINITE or BAD_QUATERNION.
    """
    dq = np.array(message.dq)
    return ArmState(
        time_ns=convert.from_time(message.header.stamp),
        pose=convert.from_pose(message.pose_tool_in_base),
        opening=message.gripper_opening_command if message.gripper_commanded else None,
        at_rest=message.phase == ControllerState.PHASE_HOLDING
        and bool(np.all(np.abs(dq) < AT_REST)),
        in_contact=message.in_contact,
        feels=message.compliant,
    )
