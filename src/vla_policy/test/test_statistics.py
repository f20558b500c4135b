# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

import numpy as np
import pytest

from vla_policy.statistics import Statistics
from vla_policy.types import CheckpointError


def test_normalised_data_have_zero_mean_and_unit_variance() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(3.0, 2.0, (500, 24))
    actions = rng.normal(1.0, 0.5, (500, 16, 10))
    statistics = Statistics.of(states, actions)
    normal = statistics.normalise_actions(actions)
    np.testing.assert_allclose(normal.mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(normal.std(axis=0), 1.0, atol=1e-9)
    np.testing.assert_allclose(statistics.normalise_state(states).std(axis=0), 1.0, atol=1e-9)
    np.testing.assert_allclose(statistics.restore_actions(normal), actions, atol=1e-9)


def test_constant_dimensions_are_not_amplified() -> None:
    actions = np.zeros((10, 16, 10))
    statistics = Statistics.of(np.zeros((10, 24)), actions)
    assert np.abs(statistics.normalise_actions(actions + 1e-6)).max() < 1e-3


@pytest.mark.parametrize(
    ("group", "name"),
    [("state", "mean"), ("state", "std"), ("action", "mean"), ("action", "std")],
)
def test_missing_entries_are_named(statistics: Statistics, group: str, name: str) -> None:
    values = copy.deepcopy(statistics.to_dict())
    del values[group][name]
    with pytest.raises(CheckpointError, match=f"{group}.{name}"):
        Statistics.from_dict(values)


def test_zero_spread_is_an_error(statistics: Statistics) -> None:
    values = copy.deepcopy(statistics.to_dict())
    values["state"]["std"][3] = 0.0
    with pytest.raises(CheckpointError, match="state_std"):
        Statistics.from_dict(values)


def test_written_and_read(statistics: Statistics) -> None:
    again = Statistics.from_dict(statistics.to_dict())
    np.testing.assert_array_equal(again.action_std, statistics.action_std)
    np.testing.assert_array_equal(again.state_mean, statistics.state_mean)
