# SPDX-License-Identifier: Apache-2.0
"""Failure detection in messages: a detector sees on a robot what it was fitted on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from scipy.spatial.transform import Rotation

from vla_failure.binding import Binding
from vla_failure.decision import Decision
from vla_failure.episodes import aggregate_features, chunk_array
from vla_msgs.msg import ActionChunk, ControllerState, ControlOwner, FailureStatus, PolicyFeatures
from vla_nodes import convert
from vla_nodes.convert import ConversionError, Reason
from vla_nodes.convert.failure import (
    from_control_owner,
    from_failure_status,
    from_policy_features,
    to_arm_state,
    to_policy_features,
)
from vla_nodes.supervision.types import State
from vla_policy.state_encoding import encode_state
from vla_policy.types import ActionChunk as PolicyChunk
from vla_policy.types import RobotState

RUNNING = Binding(
    policy_id="p",
    feature_name="pre_velocity",
    feature_shape=(5, 16, 7),
    sampler="euler",
    schedule="asynchronous",
    execute_steps=8,
    step_dt=0.05,
    latency_s=0.1,
    cameras=("scene", "wrist"),
    image_size=96,
    robot="panda",
)


def made(joints: bool = False) -> tuple[PolicyChunk, RobotState, PolicyFeatures]:
    """A chunk, the state that it starts from, and the message that they become."""
    rng = np.random.default_rng(3)
    poses = np.repeat(np.eye(4)[None], 16, axis=0)
    poses[:, :3, :3] = Rotation.random(16, random_state=4).as_matrix()
    poses[:, :3, 3] = rng.uniform(-1.0, 1.0, (16, 3))
    chunk = PolicyChunk(
        stamp_ns=5_000_000_001,
        step_dt=0.05,
        commanded=rng.normal(size=(16, 7)) if joints else poses,
        gripper_opening=rng.uniform(0.0, 0.08, 16),
        features=rng.normal(size=(5, 16, 7)).astype(np.float32),
        inference_id=9,
        policy_id="p",
    )
    state = RobotState(chunk.stamp_ns, rng.normal(size=7), rng.normal(size=7), 0.04, poses[0])
    sent = convert.to_action_chunk(
        chunk,
        base_frame="base",
        tool_frame="tool",
        joint_names=[f"j{i}" for i in range(7)],
        sequence=4,
        instruction_id=2,
    )
    features = to_policy_features(
        chunk, sent, state=state, running=RUNNING, encode_latency=0.01, act_latency=0.02
    )
    taken = deserialize_message(serialize_message(features), PolicyFeatures)
    return chunk, state, taken


def test_a_detector_sees_what_is_recorded_in_rollouts() -> None:
    chunk, state, message = made()
    seen = from_policy_features(message)
    np.testing.assert_array_equal(seen.features, aggregate_features(chunk.features))
    np.testing.assert_array_equal(seen.state, encode_state(state).astype(np.float32))
    recorded = chunk_array(chunk.poses_tool_in_base, chunk.gripper_opening)
    np.testing.assert_allclose(seen.chunk, recorded, atol=2e-7)  # by way of quaternions
    assert seen.running == RUNNING
    assert seen.running.calibration_id == RUNNING.calibration_id
    assert (seen.stamp_ns, seen.sequence, seen.inference_id, seen.instruction_id) == (
        5_000_000_001,
        4,
        9,
        2,
    )


def _set(name: str, value: object) -> Callable[[PolicyFeatures], None]:
    return lambda message: setattr(message, name, value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("shape", [5, 16]), Reason.WRONG_LENGTH),
        (_set("shape", [5, 16, 8]), Reason.WRONG_LENGTH),
        (_set("shape", [0, 16, 7]), Reason.WRONG_LENGTH),
        (_set("values", []), Reason.WRONG_LENGTH),
        (_set("chunk", ActionChunk()), Reason.UNSUPPORTED_MODE),
        (lambda m: setattr(m.chunk, "gripper_opening", [0.0]), Reason.WRONG_LENGTH),
        (lambda m: setattr(m.chunk.poses[3].position, "x", math.nan), Reason.NOT_FINITE),
        (lambda m: setattr(m.chunk.poses[3].orientation, "w", 7.0), Reason.BAD_QUATERNION),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    change: Callable[[PolicyFeatures], None], reason: Reason
) -> None:
    _, _, message = made()
    change(message)
    with pytest.raises(ConversionError) as caught:
        from_policy_features(message)
    assert caught.value.reason is reason


def test_a_chunk_of_joints_has_no_poses_to_look_at() -> None:
    _, _, message = made(joints=True)
    with pytest.raises(ConversionError, match="detectors look at poses"):
        from_policy_features(message)


def test_unknown_numbers_are_read_the_safe_way() -> None:
    assert from_failure_status(FailureStatus(verdict=3)).decision is Decision.BACKTRACK
    assert from_failure_status(FailureStatus(verdict=99)).decision is Decision.ABSTAIN
    assert from_control_owner(ControlOwner(state=1)).state is State.AUTONOMOUS
    assert from_control_owner(ControlOwner(state=99)).state is State.FAULT


def test_an_arm_is_at_rest_only_when_it_holds_and_nothing_moves() -> None:
    message = ControllerState(phase=ControllerState.PHASE_HOLDING, dq=[0.001] * 7)
    message.pose_tool_in_base.orientation.w = 1.0
    assert to_arm_state(message).at_rest
    assert to_arm_state(message).opening is None
    assert not to_arm_state(message).feels
    message.gripper_commanded, message.gripper_opening_command = True, 0.03
    message.compliant = True
    assert to_arm_state(message).opening == 0.03
    assert to_arm_state(message).feels
    for name, value in (("dq", [0.0] * 6 + [0.02]), ("phase", ControllerState.PHASE_BRAKING)):
        moving = ControllerState(phase=ControllerState.PHASE_HOLDING, dq=[0.0] * 7)
        moving.pose_tool_in_base.orientation.w = 1.0
        assert to_arm_state(moving).at_rest, "the positive control"
        setattr(moving, name, value)
        assert not to_arm_state(moving).at_rest
    message.dq = [math.nan] * 7
    assert not to_arm_state(message).at_rest


def test_the_binding_is_of_what_runs() -> None:
    from vla_nodes.configs import PolicyConfig
    from vla_nodes.inference.scripted import make_scripted
    from vla_nodes.inference.setup import running
    from vla_nodes.parameters import defaults, from_mapping

    policy = make_scripted("scripted/circle", ("a",))
    config = from_mapping(PolicyConfig, defaults("policy_node"))
    found = running(config, policy, 0.15)
    assert (found.policy_id, found.latency_s) == ("scripted/circle", 0.15)
    assert (found.sampler, found.schedule) == ("euler", "asynchronous")
    guided = running(replace(config, schedule="rtc"), policy, 0.15)
    assert (guided.sampler, guided.schedule) == ("rtc", "rtc")
    assert running(replace(config, act_rate=10.0), policy, 0.15).schedule != found.schedule
