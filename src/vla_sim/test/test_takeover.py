# SPDX-License-Identifier: Apache-2.0
"""What jumps when hands change, on few draws, and what would without a hand-over."""

from __future__ import annotations

import pytest

from vla_sim import robots
from vla_sim.control_bench import takeover


@pytest.mark.parametrize("situation", takeover.SITUATIONS)
def test_a_change_of_hands_is_not_felt(situation: str) -> None:
    found = takeover.measure(robots.get("panda"), situation, 8)
    assert found["rejected_chunks"] == 0
    assert found["reference_step_max_mm"] <= 0.1
    assert found["reference_velocity_step_max_mm_s"] <= 1.0
    assert found["wrench_step_max_n"] <= 0.5


def test_a_brake_at_once_is_felt() -> None:
    """The positive control: the controller is not told that somebody follows."""
    found = takeover.measure(robots.get("panda"), "moving", 8, gently=False)
    assert found["wrench_step_max_n"] > 2.0
    assert found["torque_rate_ratio"] > 3.0


def test_an_unknown_situation_is_refused() -> None:
    with pytest.raises(ValueError, match="valid: free, contact, payload, moving"):
        takeover.Handover(robots.get("panda"), "dancing", 0)
