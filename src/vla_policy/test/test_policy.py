# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FakeObservation
from safetensors.torch import load_file, save_file

from vla_policy import ActionChunk, Policy, RobotState, load_policy
from vla_policy.types import CheckpointError, ObservationMismatchError


@pytest.fixture
def policy(checkpoint: Path) -> Policy:
    return load_policy(checkpoint)


def infer(policy: Policy, observation: FakeObservation) -> ActionChunk:
    policy.reset(3)
    return policy.act(policy.encode(observation), RobotState.of(observation))


def test_a_chunk_has_what_it_promises(policy: Policy, observation: FakeObservation) -> None:
    chunk = infer(policy, observation)
    assert chunk.stamp_ns == observation.stamp_ns
    assert chunk.poses_tool_in_base.shape == (16, 4, 4)
    rotation = chunk.poses_tool_in_base[:, :3, :3]
    unit = np.tile(np.eye(3), (16, 1, 1))
    np.testing.assert_allclose(rotation @ np.swapaxes(rotation, 1, 2), unit, atol=1e-9)
    assert chunk.gripper_opening.shape == (16,)
    assert (chunk.gripper_opening >= 0.0).all()
    assert chunk.features.shape == policy.spec.feature_shape == (5, 16, 48)
    assert chunk.policy_id == policy.spec.policy_id
    assert len(chunk.policy_id) == 16


def test_inference_is_deterministic(policy: Policy, observation: FakeObservation) -> None:
    first, second = infer(policy, observation), infer(policy, observation)
    np.testing.assert_array_equal(first.poses_tool_in_base, second.poses_tool_in_base)
    np.testing.assert_array_equal(first.features, second.features)


def test_noise_differs_between_inferences_and_seeds(
    policy: Policy, observation: FakeObservation
) -> None:
    state = RobotState.of(observation)
    policy.reset(3)
    first = policy.act(policy.encode(observation), state)
    second = policy.act(policy.encode(observation), state)
    assert (first.inference_id, second.inference_id) == (0, 1)
    assert not np.array_equal(first.features, second.features)
    policy.reset(4)
    other = policy.act(policy.encode(observation), state)
    assert not np.array_equal(first.features, other.features)


def test_a_context_gives_the_same_chunk_again(policy: Policy, observation: FakeObservation) -> None:
    context, state = policy.encode(observation), RobotState.of(observation)
    np.testing.assert_array_equal(
        policy.act(context, state).features, policy.act(context, state).features
    )


@pytest.mark.parametrize("camera", ["scene", "wrist"])
def test_the_chunk_depends_on_every_image(
    policy: Policy, observation: FakeObservation, camera: str
) -> None:
    black = {**observation.images, camera: np.zeros((96, 96, 3), np.uint8)}
    changed = infer(policy, replace(observation, images=black))
    assert not np.array_equal(changed.features, infer(policy, observation).features)


@pytest.mark.parametrize(
    "change",
    [
        {"q": np.full(7, 0.2)},
        {"dq": np.full(7, 0.2)},
        {"gripper_opening": 0.0},
        {"instruction": "pick up the blue block"},
    ],
)
def test_the_chunk_depends_on_state_and_words(
    policy: Policy, observation: FakeObservation, change: dict[str, object]
) -> None:
    changed = infer(policy, replace(observation, **change))
    assert not np.array_equal(changed.features, infer(policy, observation).features)


def test_nothing_else_of_an_observation_is_read(
    policy: Policy, observation: FakeObservation
) -> None:
    class Watched:
        def __init__(self) -> None:
            self.read: set[str] = set()

        def __getattr__(self, name: str) -> object:
            self.read.add(name)
            return getattr(observation, name)

    watched = Watched()
    infer(policy, watched)  # type: ignore[arg-type]
    assert watched.read == {
        "stamp_ns",
        "images",
        "q",
        "dq",
        "gripper_opening",
        "instruction",
        "pose_tool_in_base",
    }


def test_guidance_wraps_the_flow(policy: Policy, observation: FakeObservation) -> None:
    state = RobotState.of(observation)
    policy.reset(3)
    context = policy.encode(observation)
    calls = []

    def guidance(velocity):  # type: ignore[no-untyped-def]
        def guided(actions, t, /):  # type: ignore[no-untyped-def]
            v, features = velocity(actions, t)
            calls.append(t)
            return v + 0.3, features

        return guided

    guided = policy.act(context, state, guidance)
    assert len(calls) == 5
    assert not np.array_equal(
        guided.poses_tool_in_base, policy.act(context, state).poses_tool_in_base
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {"scene": np.zeros((96, 96, 3), np.uint8)}}, "'wrist' is missing"),
        (
            {
                "images": {
                    "scene": np.zeros((3, 96, 96), np.uint8),
                    "wrist": np.zeros((96, 96, 3), np.uint8),
                }
            },
            "'scene'",
        ),
        ({"q": np.zeros(6)}, "7 joints"),
        ({"q": np.full(7, np.nan)}, "not finite: q/panda_joint1"),
        ({"instruction": " "}, "empty"),
    ],
)
def test_observations_that_do_not_fit_are_refused(
    policy: Policy, observation: FakeObservation, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ObservationMismatchError, match=message):
        infer(policy, replace(observation, **change))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "statistics.json"]
)
def test_missing_files_are_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(CheckpointError, match=name.split(".")[0]):
        load_policy(checkpoint)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        load_policy(tmp_path / "nowhere")


def test_missing_and_unexpected_weights_are_named(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    weights = load_file(path)
    name = "pi0.action_out_proj.weight"
    weights["surplus"] = weights.pop(name)
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"missing weights \['pi0.action_out_proj.weight'\]"):
        load_policy(checkpoint)
    weights[name] = weights["surplus"]
    save_file({k: v.clone() for k, v in weights.items()}, path)
    with pytest.raises(CheckpointError, match=r"unexpected weights \['surplus'\]"):
        load_policy(checkpoint)


def test_missing_statistics_are_named(checkpoint: Path) -> None:
    path = checkpoint / "statistics.json"
    values = json.loads(path.read_text())
    del values["action"]["std"]
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"action\.std"):
        load_policy(checkpoint)


def test_unknown_types_are_refused_with_the_valid_ones(checkpoint: Path) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "type": "other"}))
    with pytest.raises(CheckpointError, match="nano_pi0"):
        load_policy(checkpoint)


def test_weights_are_stored_in_16_bits_and_change_the_id(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    weights = load_file(path)
    assert {w.dtype for w in weights.values()} == {torch.bfloat16}
    before = load_policy(checkpoint).spec.policy_id
    weights["pi0.action_out_proj.bias"] += 1.0
    save_file(weights, path)
    assert load_policy(checkpoint).spec.policy_id != before
