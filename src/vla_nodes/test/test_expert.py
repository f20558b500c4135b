# SPDX-License-Identifier: Apache-2.0
"""When a scripted expert takes the arm from a policy."""

from __future__ import annotations

import numpy as np
import pytest

from vla_nodes.teleop.expert import AHEAD, APART, TIMES, Doubt, Way

STEP_DT = 0.05


def way(direction: tuple[float, float, float], speed: float = 0.2, stamp: float = 7.0) -> Way:
    """Sixteen steps straight ahead."""
    unit = np.array(direction) / np.linalg.norm(direction)
    return Way(stamp, STEP_DT, speed * STEP_DT * np.arange(16)[:, None] * unit)


def verdicts(policies: list[Way], expert: Way) -> list[bool]:
    doubt = Doubt()
    return [doubt.compare(policy, expert) for policy in policies]


def test_a_way_is_followed_between_its_steps_and_held_beyond_them() -> None:
    ahead = way((1, 0, 0), speed=0.2)
    assert ahead.at(7.125) == pytest.approx((0.025, 0, 0))
    assert ahead.at(6.0) == pytest.approx((0, 0, 0))
    assert ahead.at(9.0) == pytest.approx((0.15, 0, 0))


def test_a_policy_that_leads_elsewhere_again_and_again_goes_wrong() -> None:
    found = verdicts([way((-1, 0, 0))] * (TIMES + 1), way((1, 0, 0)))
    assert found == [False] * (TIMES - 1) + [True] * 2


def test_one_that_is_slower_or_elsewhere_for_a_moment_is_left_alone() -> None:
    expert = way((1, 0, 0))
    assert not any(verdicts([way((1, 0, 0), speed=0.2 - 0.9 * APART / AHEAD)] * 20, expert))
    back_and_forth = [way((-1, 0, 0))] * (TIMES - 1) + [way((1, 0, 0))]
    assert not any(verdicts(back_and_forth * 5, expert))


def test_they_are_compared_at_the_same_time() -> None:
    late = Way(7.1, STEP_DT, way((1, 0, 0)).positions + np.array([0.02, 0, 0]))
    assert not any(verdicts([way((1, 0, 0))] * 20, late))
