# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from vla_policy import default_checkpoint
from vla_policy.evaluation import rollout
from vla_policy.evaluation.delay_comparison import Arm, arms_of, compare_delays
from vla_policy.evaluation.evaluate import EvaluationConfig


def test_the_delay_free_arm_comes_first_and_once() -> None:
    arms = arms_of(["asynchronous", "rtc"], [0, 4])
    assert arms == [
        Arm("asynchronous", 0),
        Arm("asynchronous", 4),
        Arm("rtc", 0),
        Arm("rtc", 4),
    ]
    with pytest.raises(ValueError, match=r"'fast'; valid: asynchronous, .*rtc, vlash"):
        arms_of(["fast"], [4])
    with pytest.raises(ValueError, match=r"\[-1\] steps; valid: 0 or more"):
        arms_of(["rtc"], [-1])


def test_every_scene_is_run_in_every_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rollout.TIME_LIMITS, "touch", 0.8)
    config = EvaluationConfig(default_checkpoint(), suite="touch", episodes=2, workers=1)
    seen = []
    try:
        result = compare_delays(config, ["rtc"], [4], seen.append)
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(seen) == len(result["episodes"]) == 4
    first, second = result["episodes"][:2]
    assert first["seed"] == second["seed"]
    assert (first["schedule"], second["schedule"]) == ("asynchronous", "rtc")
    assert first["digest"] != second["digest"]
    assert result["figures"]["success_rate"] == 0.0, "0.8 s are too short"
    assert result["figures"]["sampler_cost_ratio"] > 1.0
    assert [row["arm"] for row in result["table"]] == ["asynchronous_d0", "rtc_d4"]
