# SPDX-License-Identifier: Apache-2.0
"""The second head: regression on the frozen network, as a small delta."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FakeObservation
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla_policy import RobotState, default_checkpoint, load_policy, read_manifest
from vla_policy.checkpoint import load_flow_policy
from vla_policy.checkpoint_delta import save_delta
from vla_policy.heads import RegressionHead
from vla_policy.samplers import guided
from vla_policy.training.head_training import (
    HeadConfig,
    ReadOut,
    fit_head,
    train_head,
    validate_head,
)
from vla_policy.types import CheckpointError, PolicyError
from vla_sim.simulation import Simulation

EMPTY = {"demonstrations": [], "validation_seeds": [7], "selection_seeds": []}


@pytest.fixture
def delta(checkpoint: Path, tmp_path: Path) -> Path:
    base = load_flow_policy(checkpoint)
    torch.manual_seed(0)
    head = RegressionHead(base.network.config)
    torch.nn.init.normal_(head.leave.weight, std=0.02)
    save_delta(tmp_path / "delta", head, checkpoint, base.spec.policy_id, EMPTY, [])
    return tmp_path / "delta"


def test_a_delta_is_the_base_with_another_head(
    checkpoint: Path, delta: Path, observation: FakeObservation
) -> None:
    base, policy = load_policy(checkpoint), load_policy(delta)
    state = RobotState.of(observation)
    chunk = policy.act(policy.encode(observation), state)
    assert chunk.features.shape == policy.spec.feature_shape == (1, 16, 48)
    assert policy.spec.policy_id not in ("", base.spec.policy_id)
    assert policy.spec.cameras == base.spec.cameras
    again = policy.act(policy.encode(observation), state)
    np.testing.assert_array_equal(again.poses_tool_in_base, chunk.poses_tool_in_base)
    assert not policy.has_flow
    context = policy.encode(observation)
    with pytest.raises(PolicyError, match="no flow"):
        policy.act(context, state, guided(lambda clean, t: clean))


def test_a_delta_is_small_and_knows_all_seeds(delta: Path, checkpoint: Path) -> None:
    assert sum(file.stat().st_size for file in delta.iterdir()) < 2_000_000
    manifest = read_manifest(delta)
    assert manifest["validation_seeds"] == [7]
    assert manifest["demonstrations"] == read_manifest(checkpoint)["demonstrations"]


def test_a_head_of_full_width_stays_within_two_megabytes() -> None:
    shape = load_flow_policy(default_checkpoint()).network.config
    parameters = sum(p.numel() for p in RegressionHead(shape).parameters())
    assert 2 * parameters < 2_000_000


def test_before_training_the_head_is_the_mean_of_the_flow(sim: Simulation) -> None:
    policy = load_flow_policy(default_checkpoint())
    head = RegressionHead(policy.network.config)
    chunks, means = [], []
    for scene in (("push", 1_000_001), ("pick", 1_000_002)):
        sim.reset(*scene)
        observation = sim.observe()
        state = RobotState.of(observation)
        context, frame = policy.encode(observation), policy.action_frame(state)
        with torch.no_grad():
            chunk, _ = head.sample(
                policy.network, context.prefix, policy.network_state(state), torch.zeros(1), None
            )
        chunks.append(chunk[0])
        sampled = []
        for seed in range(8):
            policy.reset(seed)
            one = policy.act(context, state)
            sampled.append(frame.encode(one.poses_tool_in_base, one.gripper_opening))
        means.append(torch.cat(sampled).mean(0))

    def away(chunk: Tensor, mean: Tensor) -> float:
        return float((chunk - mean)[:, :3].abs().mean())

    for own, other in ((0, 1), (1, 0)):
        gap = away(chunks[own], means[own])
        # The positive controls: the other scene's mean, and that of all training actions.
        assert gap < away(chunks[own], means[other])
        assert gap < 0.3 * away(torch.zeros_like(means[own]), means[own])


def test_another_base_is_refused(checkpoint: Path, delta: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    weights["pi0.action_out_proj.bias"] += 1.0
    save_file(weights, checkpoint / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"a head for the policy \w{16}; the checkpoint in"):
        load_policy(delta)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "head.safetensors").unlink(), "head.safetensors"),
        (lambda folder: save_file({"x": torch.zeros(1)}, folder / "head.safetensors"), "missing"),
        (lambda folder: rewrite(folder, base={"policy_id": "x"}), "lacks 'checkpoint'"),
        (
            lambda folder: rewrite(folder, base={"policy_id": "x", "checkpoint": "../gone"}),
            "the base of .* is missing",
        ),
    ],
)
def test_damaged_deltas_are_named(delta: Path, damage: object, message: str) -> None:
    load_policy(delta)
    damage(delta)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=message):
        load_policy(delta)


def rewrite(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_head_on_a_head_is_refused(delta: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no nano_pi0 with its own head"):
        train_head([], tmp_path, delta)


def test_the_head_learns_what_the_mean_lacks() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = load_flow_policy(default_checkpoint()).network.config
    project = torch.randn(shape.expert_width, 10, generator=generator) / shape.expert_width**0.5

    def samples(count: int) -> ReadOut:
        features = torch.randn(count, 16, shape.expert_width, generator=generator)
        mean = torch.randn(count, 16, 10, generator=generator)
        return ReadOut(mean, features.half(), mean + features @ project)

    train, held_out, std = samples(1024), samples(64), torch.full((16, 10), 0.05)
    head = RegressionHead(shape)
    before = validate_head(head, held_out, std)["validation_l1"]
    fit_head(head, train, held_out, std, HeadConfig(epochs=8), lambda _: None)
    assert validate_head(head, held_out, std)["validation_l1"] < 0.5 * before
