# SPDX-License-Identifier: Apache-2.0
"""The compiled flow gives what the eager one gives, and keeps it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from conftest import FakeObservation, tiny_config
from servers import remote, served
from torch import Tensor

from vla_policy import PolicyError, RobotState, load_policy
from vla_policy.heads import CompiledFlow, FlowHead, RegressionHead
from vla_policy.nano_pi0 import NanoPi0
from vla_policy.policy import NanoPi0Policy
from vla_policy.samplers import guided, real_time_chunking

# Traces and differentiates as inductor does, without the compiler, which takes half a minute.
TRACED = "aot_eager"
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def make(cameras: int, dtype: torch.dtype = torch.float32) -> NanoPi0:
    torch.manual_seed(0)
    network = NanoPi0(tiny_config(cameras=cameras, layers=1, flow_steps=3), dtype=dtype)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5.0)
    return network.eval().requires_grad_(False)


def inputs(network: NanoPi0, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    shape = network.config
    images = torch.rand((batch, shape.cameras, 3, 96, 96), generator=generator) * 2.0 - 1.0
    ids = torch.randint(4, 300, (batch, shape.text_tokens), generator=generator)
    valid = torch.arange(shape.text_tokens) < torch.tensor([[5], [9]])[:batch]
    return images.to(network.dtype), ids, valid


def chunk_inputs(network: NanoPi0, batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    shape = network.config
    state = torch.randn((batch, shape.state_dim), generator=generator)
    return state, torch.randn((batch, shape.horizon, shape.action_dim), generator=generator)


def both(network: NanoPi0, backend: str, batch: int = 1, guide: bool = False) -> list[list[Tensor]]:
    """Prefix, actions and features, eager and compiled."""
    compiled, eager = CompiledFlow(network, 3, backend), FlowHead(3)
    state, noise = chunk_inputs(network, batch)
    goal = real_time_chunking(torch.zeros_like(noise), torch.ones(16))
    results = []
    with torch.no_grad():
        for head, encode in ((eager, network.encode), (compiled, compiled.encode)):
            prefix = encode(*inputs(network, batch))
            guidance = guided(goal) if guide else None
            actions, features = head.sample(network, prefix, state, noise, guidance)
            results.append([*prefix.keys, *prefix.values, prefix.valid, actions, features])
    return results


def assert_equal(results: list[list[Tensor]], tolerance: float = TOLERANCE) -> None:
    for eager, compiled in zip(*results, strict=True):
        assert eager.shape == compiled.shape
        assert eager.dtype == compiled.dtype
        torch.testing.assert_close(compiled, eager, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("cameras", "dtype", "tolerance"), [(2, torch.float32, TOLERANCE), (3, torch.bfloat16, 0.05)]
)
def test_it_is_the_eager_flow(cameras: int, dtype: torch.dtype, tolerance: float) -> None:
    results = both(make(cameras, dtype), TRACED)
    assert_equal(results, tolerance)
    assert (results[1][0].dtype, results[1][-2].dtype) == (dtype, torch.float32)


def test_the_loop_when_really_compiled() -> None:  # and not the prefix, which takes longer
    network = make(1)
    state, noise = chunk_inputs(network, 1)
    with torch.no_grad():
        prefix = network.encode(*inputs(network, 1))
        results = [
            list(head.sample(network, prefix, state, noise, None))
            for head in (FlowHead(3), CompiledFlow(network, 3))
        ]
    assert_equal(results)


def test_guidance_has_its_gradient() -> None:
    network = make(1)
    results = both(network, TRACED, batch=2, guide=True)
    assert_equal(results)
    with torch.no_grad():
        prefix = network.encode(*inputs(network, 2))
        plain, _ = FlowHead(3).sample(network, prefix, *chunk_inputs(network, 2), None)
    assert not torch.allclose(plain, results[1][-2], atol=0.1)


def test_what_it_has_given_outlives_the_next_call() -> None:
    network = make(1)
    head = CompiledFlow(network, 3, TRACED)
    state, noise = chunk_inputs(network, 2)
    with torch.no_grad():  # the second row is computed after the first, on the same memory
        both_rows = head.encode(*inputs(network, 2))
        actions, _ = head.sample(network, both_rows, state, noise, None)
        expected = network.encode(*inputs(network, 2))
        wanted, _ = FlowHead(3).sample(network, expected, state, noise, None)
        first = head.encode(*(part[:1] for part in inputs(network, 2)))
        head.encode(*(part[1:] for part in inputs(network, 2)))
    torch.testing.assert_close(actions, wanted, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(first.keys[0], expected.keys[0][:1], atol=1e-4, rtol=1e-4)


def test_a_policy_is_compiled(checkpoint: object, observation: FakeObservation) -> None:
    eager, compiled = load_policy(checkpoint), load_policy(checkpoint)  # type: ignore[arg-type]
    assert isinstance(compiled, NanoPi0Policy)
    compiled.compile(TRACED)
    state = RobotState.of(observation)
    chunks = [one.act(one.encode(observation), state) for one in (eager, compiled)]
    np.testing.assert_allclose(
        chunks[1].poses_tool_in_base, chunks[0].poses_tool_in_base, atol=TOLERANCE
    )
    np.testing.assert_allclose(chunks[1].features, chunks[0].features, atol=1e-3)
    compiled.reset()
    counted = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert counted > 0
    with served(compiled) as (address, _):  # which computes in another thread
        there = remote(address)
        far = there.act(there.encode(observation), state)
    np.testing.assert_allclose(far.features, chunks[1].features, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == counted, "compiled anew"
    compiled._head = RegressionHead(compiled.network.config)
    with pytest.raises(PolicyError, match="from the flow"):
        compiled.compile(TRACED)
