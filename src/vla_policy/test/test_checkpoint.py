# SPDX-License-Identifier: Apache-2.0
"""The checkpoint that comes with the package."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import FakeObservation
from safetensors.torch import load_file

from vla_policy import RobotState, default_checkpoint, load_policy, read_manifest
from vla_policy.evaluation.evaluate import check_seeds
from vla_sim import robots, seeds


def test_it_loads_and_fits_its_robot(observation: FakeObservation) -> None:
    policy = load_policy()
    robot = robots.get(policy.spec.robot)
    assert policy.spec.joint_names == tuple(robot.joint_names)
    assert (policy.spec.horizon, policy.spec.step_dt, policy.spec.execute_steps) == (16, 0.05, 8)
    chunk = policy.act(policy.encode(observation), RobotState.of(observation))
    assert np.isfinite(chunk.poses_tool_in_base).all()
    assert chunk.features.shape == policy.spec.feature_shape


def test_it_is_small_and_in_16_bits() -> None:
    files = list(default_checkpoint().iterdir())
    assert sum(file.stat().st_size for file in files) <= 14.5e6
    assert (default_checkpoint() / "model.safetensors").stat().st_size <= 14e6
    weights = load_file(default_checkpoint() / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["nano_pi0", "nano_pi0_l1"])
def test_its_seeds_are_those_of_demonstrations_and_selection(name: str) -> None:
    folder = default_checkpoint().parent / name
    assert load_policy(folder).spec.robot == "panda"
    manifest = read_manifest(folder)
    for entry in manifest["demonstrations"]:
        used = [*entry["seeds"], *entry["failed_seeds"]]
        assert used
        assert {seeds.purpose_of(seed) for seed in used} == {"demonstrations"}
    assert {seeds.purpose_of(s) for s in manifest["selection_seeds"]} == {"selection"}
    check_seeds(manifest, seeds.range_of("evaluation"), "evaluation")
