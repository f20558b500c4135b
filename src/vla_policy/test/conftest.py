# SPDX-License-Identifier: Apache-2.0
"""A tiny policy with random weights, for tests that need a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from servers import served

from vla_policy.actions.spec import ACTION_DIM
from vla_policy.checkpoint import load_policy, save_checkpoint
from vla_policy.nano_pi0 import NanoPi0, NanoPi0Config
from vla_policy.policy import NanoPi0Policy
from vla_policy.spec import PolicySpec
from vla_policy.state_encoding import state_names
from vla_policy.statistics import Statistics
from vla_policy.tokenizer import InstructionTokenizer
from vla_sim.simulation import Simulation

JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))


@dataclass(frozen=True)
class FakeObservation:
    stamp_ns: int
    images: dict[str, Any]
    q: Any
    dq: Any
    gripper_opening: float
    instruction: str
    pose_tool_in_base: Any


def tiny_config(vocabulary: int = 320, **overrides: int) -> NanoPi0Config:
    shape: dict[str, int] = {
        "vision_width": 32,
        "vision_layers": 1,
        "vision_mlp": 32,
        "vision_heads": 2,
        "language_width": 32,
        "language_mlp": 32,
        "expert_width": 48,
        "expert_mlp": 32,
        "layers": 2,
        "heads": 2,
        "kv_heads": 1,
        "head_dim": 16,
    }
    return NanoPi0Config(
        vocab_size=vocabulary,
        image_token_id=3,
        state_dim=24,
        action_dim=ACTION_DIM,
        **{**shape, **overrides},
    )


@pytest.fixture(scope="session")
def tokenizer() -> InstructionTokenizer:
    return InstructionTokenizer.build(["pick up the red block", "put the blue block in the bowl"])


@pytest.fixture(scope="session")
def network() -> NanoPi0:
    torch.manual_seed(0)
    network = NanoPi0(tiny_config())
    # The default initialisation is so small that differences drown; spread it.
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5.0)
    return network.eval()


@pytest.fixture
def statistics() -> Statistics:
    rng = np.random.default_rng(0)
    actions = rng.normal(size=(50, 16, ACTION_DIM)) * 0.02
    actions[..., 3] += 1.0
    actions[..., 7] += 1.0
    actions[..., 9] += 0.04
    return Statistics.of(rng.normal(size=(50, 24)), actions)


@pytest.fixture
def checkpoint(
    tmp_path: Path, network: NanoPi0, tokenizer: InstructionTokenizer, statistics: Statistics
) -> Path:
    folder = tmp_path / "checkpoint"
    shape = network.config
    save_checkpoint(
        folder,
        weights=network.state_dict(),
        network=shape,
        spec=PolicySpec(
            cameras=("scene", "wrist"),
            image_size=96,
            joint_names=JOINTS,
            state_names=state_names(JOINTS),
            horizon=16,
            step_dt=0.05,
            execute_steps=8,
            feature_name="pre_velocity",
            feature_shape=(shape.flow_steps, 16, shape.expert_width),
            latency_s=0.1,
            robot="panda",
        ),
        tokenizer=tokenizer,
        statistics=statistics,
        training_log=[],
        manifest={
            "demonstrations": [{"task": "pick", "seeds": [1, 2, 4_000_007], "failed_seeds": [3]}],
            "selection_seeds": [1_000_000, 1_000_001],
            "validation_seeds": [],
        },
    )
    return folder


@pytest.fixture
def observation() -> FakeObservation:
    rng = np.random.default_rng(1)
    pose = np.eye(4)
    pose[:3, :3] = np.diag([1.0, -1.0, -1.0])
    pose[:3, 3] = [0.5, 0.0, 0.3]
    return FakeObservation(
        stamp_ns=5_000_000,
        images={n: rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for n in ("scene", "wrist")},
        q=rng.normal(size=7),
        dq=rng.normal(size=7) * 0.1,
        gripper_opening=0.08,
        instruction="pick up the red block",
        pose_tool_in_base=pose,
    )


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulation]:
    """A simulation, to be reset to a scene."""
    simulation = Simulation("panda", "pick", 1_000_000)
    yield simulation
    simulation.close()


@pytest.fixture
def policy(checkpoint: Path) -> NanoPi0Policy:
    policy = load_policy(checkpoint)
    assert isinstance(policy, NanoPi0Policy)
    return policy


@pytest.fixture
def address(policy: NanoPi0Policy) -> Iterator[str]:
    """Of a server of this policy."""
    with served(policy) as (address, _):
        yield address
