# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from vla_policy.evaluation.intervals import (
    paired_difference_interval,
    paired_ratio_interval,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (5, 10, 0.2366, 0.7634),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (160, 200, 0.7392, 0.8495),
    ],
)
def test_known_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_an_error(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, trials)


def test_a_paired_ratio_of_equal_outcomes_is_certain() -> None:
    outcomes, groups = [1, 0, 1, 1] * 10, ["a", "b"] * 20
    assert paired_ratio_interval(outcomes, outcomes, groups) == (1.0, 1.0, 1.0)
    assert paired_difference_interval(outcomes, outcomes, groups) == (0.0, 0.0, 0.0)


def test_a_paired_interval_has_its_coverage_and_uses_the_pairs() -> None:
    # Hard scenes are hard with and without delay: the truth is 0.72 / 0.8.
    rng = np.random.default_rng(0)
    hits, widths, loose = 0, [], []
    for _ in range(200):
        control = rng.random(100) < 0.8
        treated = control & (rng.random(100) < 0.9)
        ratio, low, high = paired_ratio_interval(treated, control, np.zeros(100))
        hits += low <= 0.9 <= high
        widths.append(high - low)
        assert low <= ratio <= high
        _, low, high = paired_ratio_interval(rng.permutation(treated), control, np.zeros(100))
        loose.append(high - low)
    assert 0.9 <= hits / 200 <= 0.99
    assert np.mean(widths) < 0.7 * np.mean(loose)


def test_impossible_ratios_are_an_error() -> None:
    with pytest.raises(ValueError, match="no scene succeeded"):
        paired_ratio_interval([1, 0], [0, 0], [0, 0])
    with pytest.raises(ValueError, match="equally many"):
        paired_ratio_interval([1, 0], [1, 0], [0])
