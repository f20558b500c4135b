# SPDX-License-Identifier: Apache-2.0
"""Guidance: the true vector-Jacobian product, real-time chunking's weights, rewards."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import FakeObservation
from torch import Tensor

from vla_policy import RobotState, default_checkpoint, load_policy
from vla_policy.actions.frame import ActionFrame
from vla_policy.actions.spec import ACTION_DIM, NANO_PI0_ACTION, ActionSpec
from vla_policy.continuation import Continuation, overlap_weights
from vla_policy.policy import NanoPi0Policy
from vla_policy.samplers import (
    KeepOutSphere,
    Reward,
    TargetRegion,
    Velocity,
    euler,
    guidance_weight,
    guided,
    real_time_chunking,
    reward_objective,
)
from vla_policy.statistics import Statistics
from vla_policy.types import PolicyError

H, A = 16, ACTION_DIM


def test_overlap_weights_are_those_published() -> None:
    weights = overlap_weights(16, delay=4, executed=8)
    assert weights[:4].tolist() == [1.0] * 4
    for i in range(4, 8):
        c = (16 - 8 - i) / (16 - 8 - 4 + 1)
        expected = c * (math.exp(c) - 1.0) / (math.e - 1.0)
        assert float(weights[i]) == pytest.approx(expected, rel=1e-6)
    assert weights[8:].tolist() == [0.0] * 8
    assert overlap_weights(16, 8, 8).tolist() == [1.0] * 8 + [0.0] * 8
    assert overlap_weights(16, 0, 16).tolist() == [0.0] * 16


@pytest.mark.parametrize(("delay", "executed"), [(9, 8), (-1, 8), (4, 17), (0, -1)])
def test_impossible_delays_are_an_error(delay: int, executed: int) -> None:
    with pytest.raises(ValueError, match="0 <= d <= H - s"):
        overlap_weights(16, delay, executed)


@pytest.mark.parametrize("tau", [0.2, 0.4, 0.6, 0.8])
def test_the_weight_over_flow_time_is_the_published_one(tau: float) -> None:
    r2 = (1.0 - tau) ** 2 / (tau**2 + (1.0 - tau) ** 2)
    expected = min(5.0, (1.0 - tau) / (tau * r2))
    assert guidance_weight(1.0 - tau) == pytest.approx(expected)
    assert guidance_weight(1.0) == guidance_weight(0.0) == 5.0


def mixing_network() -> Velocity:
    """A small network in which every step depends on every other."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(H * A, 64, generator=generator) / 6.0
    second = torch.randn(64, H * A, generator=generator) / 4.0

    def velocity(actions: Tensor, t: float, /) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(actions.flatten(1) @ first + t)
        return (hidden @ second).reshape(actions.shape), actions

    return velocity


def test_guidance_is_the_vector_jacobian_product_and_not_the_identity() -> None:
    velocity, t = mixing_network(), 0.6
    x = torch.randn(1, H, A)
    previous, weights = torch.randn(1, H, A), torch.from_numpy(overlap_weights(H, 4, 8)).float()
    guided_v, _ = guided(real_time_chunking(previous, weights))(velocity)(x, t)
    v, _ = velocity(x, t)
    pull = guidance_weight(t) * weights[:, None] * (previous - (x - t * v))
    jacobian = torch.autograd.functional.jacobian(lambda a: a - t * velocity(a, t)[0], x)
    product = (pull.flatten() @ jacobian.reshape(H * A, H * A)).reshape(1, H, A)
    torch.testing.assert_close(guided_v, v - product, atol=1e-5, rtol=1e-4)
    # With an identity for the Jacobian the steps behind the old chunk's end would not follow.
    assert product[:, 8:].abs().max() > 0.1
    assert pull[:, 8:].abs().max() == 0.0


def test_each_chunk_of_a_batch_has_its_own_bound_of_the_weight() -> None:
    clean, previous = torch.randn(2, H, A), torch.randn(2, H, A)
    weights = torch.from_numpy(np.stack([overlap_weights(H, 4, 8)] * 2))
    for t in (1.0, 0.8, 0.2, 0.0):
        pull = real_time_chunking(previous, weights, [5.0, 1.0])(clean, t)
        for row, bound in enumerate((5.0, 1.0)):
            error = weights[row, :, None] * (previous[row] - clean[row])
            expected = guidance_weight(t, bound) * error
            torch.testing.assert_close(pull[row], expected.float(), atol=1e-5, rtol=1e-5)


def test_objectives_add_up() -> None:
    velocity, x = mixing_network(), torch.randn(1, H, A)

    def push(clean: Tensor, t: float) -> Tensor:
        return torch.ones_like(clean)

    v = velocity(x, 0.5)[0]
    one = guided(push)(velocity)(x, 0.5)[0] - v
    two = guided(push, push)(velocity)(x, 0.5)[0] - v
    torch.testing.assert_close(two, 2.0 * one, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="one objective"):
        guided()


def test_a_flow_without_a_gradient_is_refused() -> None:
    velocity, x = mixing_network(), torch.randn(1, H, A)

    def push(clean: Tensor, t: float) -> Tensor:
        return torch.ones_like(clean)

    with torch.no_grad():  # as inference runs: guidance has to see to the gradient itself
        guided(push)(velocity)(x, 0.5)
        with pytest.raises(PolicyError, match="no gradient"):
            guided(push)(guided(push)(velocity))(x, 0.5)


@pytest.fixture(scope="module")
def committed() -> NanoPi0Policy:
    policy = load_policy(default_checkpoint())
    assert isinstance(policy, NanoPi0Policy)
    return policy


def test_guidance_differentiates_the_real_network(
    committed: NanoPi0Policy, observation: FakeObservation
) -> None:
    state = RobotState.of(observation)
    velocity = committed.velocity(committed.encode(observation), state)
    generator = torch.Generator().manual_seed(1)
    x, direction, pull = (torch.randn(1, H, A, generator=generator) for _ in range(3))
    t, step = 0.8, 1e-2
    pull[:, 4:] = 0.0
    guided_v, _ = guided(lambda clean, _: pull)(velocity)(x, t)

    def arrival(x: Tensor) -> Tensor:
        with torch.no_grad():
            return (x - t * velocity(x, t)[0]).double()

    with torch.no_grad():
        product = velocity(x, t)[0] - guided_v
    difference = (arrival(x + step * direction) - arrival(x - step * direction)) / (2.0 * step)
    # pullᵀ (∂A1/∂x) direction, by central differences and by the product.
    expected = float((pull * difference).sum())
    assert float((product * direction).sum()) == pytest.approx(expected, rel=0.02)
    assert float((pull * direction).sum()) != pytest.approx(expected, rel=0.2)
    assert product[:, 4:].abs().max() > 0.01


def test_a_new_chunk_goes_on_where_the_old_one_is(
    committed: NanoPi0Policy, observation: FakeObservation
) -> None:
    state = RobotState.of(observation)
    committed.reset(0)
    old = committed.act(committed.encode(observation), state)
    context = committed.encode(observation)  # other noise
    frame = committed.action_frame(state)
    previous = frame.encode(old.poses_tool_in_base[8:], old.gripper_opening[8:])
    weights = overlap_weights(H, 4, 8)
    guidance = Continuation(old.poses_tool_in_base[8:], old.gripper_opening[8:], weights)

    def gap(chunk: object) -> float:
        poses, opening = chunk.poses_tool_in_base, chunk.gripper_opening  # type: ignore[attr-defined]
        return float((frame.encode(poses, opening) - previous)[:, :4].abs().mean())

    plain, held = committed.act(context, state), committed.act(context, state, guidance)
    assert gap(held) < 0.3 * gap(plain)


def ball(spec: ActionSpec) -> ActionFrame:
    """Actions with a spread of 5 cm, in the frame of a tool that points down."""
    statistics = Statistics(
        state_mean=np.zeros(24),
        state_std=np.ones(24),
        action_mean=np.tile([0, 0, 0, 1, 0, 0, 0, 1, 0, 0.04], (H, 1)),
        action_std=np.full((H, A), 0.05),
        samples=2,
    )
    observed = np.eye(4)
    observed[:3, :3] = np.diag([1.0, -1.0, -1.0])
    observed[:3, 3] = [0.5, 0.0, 0.3]
    return ActionFrame(spec, statistics, observed, torch.device("cpu"))


SPECS = [
    NANO_PI0_ACTION,
    ActionSpec(quantity="pose", relative_to="nothing", rotation="6d"),
    ActionSpec(quantity="pose", relative_to="observation", rotation="6d", frame="base"),
    ActionSpec(
        quantity="pose",
        relative_to="previous_step",
        rotation="6d",
        frame="base",
        translation_scale=0.1,
    ),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_positions_are_those_that_are_commanded(spec: ActionSpec) -> None:
    frame = ball(spec)
    normalised = torch.randn(1, H, A) * 0.1
    poses, _ = frame.decode(normalised)
    positions = frame.positions(frame.restore(normalised))
    np.testing.assert_allclose(positions[0].numpy(), poses[:, :3, 3], atol=1e-6)


@pytest.mark.parametrize("spec", SPECS[:3], ids=str)
def test_one_step_along_a_reward_leaves_the_sphere(spec: ActionSpec) -> None:
    frame = ball(spec)
    clean = torch.randn(1, H, A) * 0.1
    positions = frame.positions(frame.restore(clean))
    sphere = KeepOutSphere(positions[0, 5].double().numpy() + np.array([0.01, 0, 0]), 0.03)
    move = reward_objective(sphere, frame)(clean, 1.0) / guidance_weight(1.0)
    after = frame.positions(frame.restore(clean + move))
    away = (after - torch.as_tensor(sphere.centre).float()).norm(dim=-1)
    assert float(away.min()) == pytest.approx(0.03, abs=1e-5)


def test_rewards_need_positions_without_rotations() -> None:
    frame = ball(
        ActionSpec(quantity="pose", relative_to="previous_step", rotation="6d", frame="tool")
    )
    with pytest.raises(ValueError, match="relative to previous_step in tool axes"):
        frame.positions(torch.zeros(1, H, A))


def test_rewards_steer_the_real_policy(
    committed: NanoPi0Policy, observation: FakeObservation
) -> None:
    state = RobotState.of(observation)
    committed.reset(0)
    context, frame = committed.encode(observation), committed.action_frame(state)

    def positions(reward: Reward | None = None, strength: float = 5.0) -> np.ndarray:
        guidance = guided(reward_objective(reward, frame, strength)) if reward else None
        return committed.act(context, state, guidance).poses_tool_in_base[:, :3, 3]

    plain = positions()
    sphere = KeepOutSphere(plain[12] + [0.01, 0.0, 0.0], 0.04)

    def depth(strength: float) -> float:
        away = np.linalg.norm(positions(sphere, strength) - sphere.centre, axis=1)
        return float((sphere.radius - away).max())

    assert depth(0.0) >= 0.03 - 1e-6
    assert depth(1.0) < 0.9 * depth(0.0)
    assert depth(5.0) < 0.4 * depth(0.0)

    region = TargetRegion(plain[-1] + [0.0, 0.06, 0.0], 0.01)
    end = positions(region)[-1]
    assert np.linalg.norm(end - region.centre) < 0.7 * np.linalg.norm(plain[-1] - region.centre)


def test_the_prefix_is_no_part_of_the_product(
    committed: NanoPi0Policy, observation: FakeObservation
) -> None:
    context = committed.encode(observation)
    tensors = (*context.prefix.keys, *context.prefix.values)
    assert not any(tensor.requires_grad for tensor in tensors)
    assert not any(weight.requires_grad for weight in committed.network.parameters())


def test_guidance_cannot_move_a_flow_that_is_certain() -> None:
    # v = (x - a)/t arrives at a from everywhere: its Jacobian is zero, so no guidance moves it.
    goal = torch.randn(1, H, A)

    def certain(actions: Tensor, t: float, /) -> tuple[Tensor, Tensor]:
        return (actions - goal) / t, actions

    guide = guided(real_time_chunking(torch.zeros(1, H, A), torch.ones(H)))
    actions, _ = euler(guide(certain), torch.randn(1, H, A), 5)
    torch.testing.assert_close(actions, goal, atol=1e-5, rtol=0.0)
