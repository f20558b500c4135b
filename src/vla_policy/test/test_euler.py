# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from vla_policy.samplers import euler
from vla_policy.training.objective import interpolate, sample_time


def test_a_straight_flow_is_integrated_exactly() -> None:
    target = torch.randn(2, 16, 10)
    noise = torch.randn(2, 16, 10)

    def velocity(actions: torch.Tensor, t: float, /) -> tuple[torch.Tensor, torch.Tensor]:
        return noise - target, actions

    for steps in (1, 5, 7):
        actions, features = euler(velocity, noise, steps)
        torch.testing.assert_close(actions, target, atol=1e-5, rtol=0.0)
        assert features.shape == (2, steps, 16, 10)


def test_a_linear_field_gives_the_euler_product() -> None:
    noise = torch.randn(1, 16, 10, dtype=torch.float64)
    times = []

    def velocity(actions: torch.Tensor, t: float, /) -> tuple[torch.Tensor, torch.Tensor]:
        times.append(t)
        return 2.0 * actions, actions

    actions, _ = euler(velocity, noise, 5)
    torch.testing.assert_close(actions, noise * (1.0 - 2.0 / 5.0) ** 5)
    assert times == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_no_steps_are_an_error() -> None:
    with pytest.raises(ValueError, match="steps"):
        euler(lambda actions, t: (actions, actions), torch.zeros(1, 16, 10), 0)


def test_interpolation_ends_in_noise_and_actions() -> None:
    actions, noise = torch.randn(3, 16, 10), torch.randn(3, 4, 16, 10)
    at_noise, target = interpolate(actions, noise, torch.ones(3, 4))
    at_actions, _ = interpolate(actions, noise, torch.zeros(3, 4))
    torch.testing.assert_close(at_noise, noise)
    torch.testing.assert_close(at_actions, actions[:, None].expand_as(noise))
    torch.testing.assert_close(at_noise - target, at_actions)


def test_flow_time_follows_its_beta_distribution() -> None:
    time = sample_time((100_000,), torch.Generator().manual_seed(0))
    assert 0.001 <= float(time.min()) < float(time.max()) <= 1.0
    # Beta(1.5, 1) has mean 0.6.
    assert float(time.mean()) == pytest.approx(0.001 + 0.999 * 0.6, abs=0.005)
