# SPDX-License-Identifier: Apache-2.0
"""A traced policy gives the bits of the one it was traced from, and goes back to it elsewhere."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import FakeObservation
from torch import Tensor

from vla_policy import PolicyError, RobotState, default_checkpoint, load_policy
from vla_policy.heads import TracedHead
from vla_policy.heads.traced import _Graph
from vla_policy.interface import ActItem
from vla_policy.policy import NetworkPolicy
from vla_policy.schedules import make_schedule

INSTRUCTIONS = ("pick up the red cube", "push", "put the yellow cube to the left of the bowl")


@pytest.fixture(scope="module", params=["nano_pi0", "nano_pi0_l1"])
def both(request: pytest.FixtureRequest) -> tuple[NetworkPolicy, NetworkPolicy]:
    """A committed policy as it is, and traced."""
    policies = []
    for _ in range(2):
        policy = load_policy(default_checkpoint().parent / request.param)
        assert isinstance(policy, NetworkPolicy)
        policies.append(policy)
    policies[1].prepare(observe(0))
    assert isinstance(policies[1]._head, TracedHead)
    return policies[0], policies[1]


def observe(seed: int, instruction: str = "warm up") -> FakeObservation:
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 256, (96, 96, 3), np.uint8) for name in ("scene", "wrist")}
    return FakeObservation(
        stamp_ns=1,
        images=images,
        q=rng.normal(0.0, 0.5, 7),
        dq=rng.normal(0.0, 0.1, 7),
        gripper_opening=0.04,
        instruction=instruction,
        pose_tool_in_base=np.eye(4),
    )


def test_the_bits_are_the_same(both: tuple[NetworkPolicy, NetworkPolicy]) -> None:
    for seed, instruction in enumerate(INSTRUCTIONS):
        seen = observe(seed + 1, instruction)
        chunks = []
        for policy in both:
            policy.reset(seed)
            chunks.append(policy.act(policy.encode(seen), RobotState.of(seen)))
        for name in ("commanded", "gripper_opening", "features"):
            values = [getattr(chunk, name) for chunk in chunks]
            np.testing.assert_array_equal(*values, err_msg=f"{name}, {instruction}")


def test_two_at_once_are_computed_as_before(both: tuple[NetworkPolicy, NetworkPolicy]) -> None:
    items = [(observe(seed, INSTRUCTIONS[seed]), 0) for seed in range(2)]
    results = []
    for policy in both:
        contexts = policy.encode_batch(items)
        pairs = zip(contexts, items, strict=True)
        asked = [ActItem(context, RobotState.of(seen), 3) for context, (seen, _) in pairs]
        results.append([chunk.commanded for chunk in policy.act_batch(asked)])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("both", ["nano_pi0"], indirect=True)
def test_what_bends_the_flow_has_its_gradient(both: tuple[NetworkPolicy, NetworkPolicy]) -> None:
    seen = observe(1, INSTRUCTIONS[0])
    state = RobotState.of(seen)
    chunks = []
    for policy in both:
        policy.reset(0)
        schedule = make_schedule("rtc", policy, 0.1)
        schedule.act(policy, policy.encode(seen), state)
        later = replace(state, stamp_ns=state.stamp_ns + 200_000_000)
        chunks.append(schedule.act(policy, policy.encode(seen), later).commanded)
    np.testing.assert_array_equal(*chunks)


def test_a_second_time_traces_nothing(both: tuple[NetworkPolicy, NetworkPolicy]) -> None:
    head = both[1]._head
    both[1].prepare(observe(0))
    assert both[1]._head is head


def test_a_graph_that_gives_other_bits_is_refused() -> None:
    calls = iter(range(100))

    def changes(x: Tensor) -> tuple[Tensor, ...]:
        return (x + next(calls),)

    with pytest.raises(PolicyError, match="traced prefix differs"):
        _Graph("prefix", changes, [torch.zeros(2)])


def test_other_shapes_take_the_way_that_was_traced() -> None:
    def by_length(x: Tensor) -> tuple[Tensor, ...]:
        return (x * len(x),)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = _Graph("prefix", by_length, [torch.ones(2)])
    assert torch.equal(graph([torch.ones(2)])[0], torch.full((2,), 2.0))
    assert torch.equal(graph([torch.ones(3)])[0], torch.full((3,), 3.0))
