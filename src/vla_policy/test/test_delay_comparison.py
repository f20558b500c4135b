# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vla_policy import default_checkpoint
from vla_policy.evaluation import delay_comparison, rollout
from vla_policy.evaluation.delay_comparison import Arm, arms_of, compare_delays, jobs_of
from vla_policy.evaluation.evaluate import EvaluationConfig
from vla_policy.evaluation.kept_episodes import NAME, KeptEpisodes


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Iterator[EvaluationConfig]:
    for task in ("touch", "follow"):
        monkeypatch.setitem(rollout.TIME_LIMITS, task, 0.8)
    yield EvaluationConfig(default_checkpoint(), suite="touch", episodes=2, workers=1)
    torch.use_deterministic_algorithms(False)


def test_the_delay_free_arm_comes_first_and_once() -> None:
    arms = arms_of(["asynchronous", "rtc"], [(0, None), (4, 20)], 50)
    assert arms == [
        Arm("asynchronous", 0),
        Arm("asynchronous", 4),
        Arm("rtc", 0),
        Arm("rtc", 4),
    ]
    assert [arm.episodes for arm in arms] == [None, 20, None, 20]
    with pytest.raises(ValueError, match=r"'fast'; valid: asynchronous, .*rtc, .*vlash"):
        arms_of(["fast"], [(4, None)], 50)
    with pytest.raises(ValueError, match=r"\[-1\] steps; valid: 0 or more"):
        arms_of(["rtc"], [(-1, None)], 50)
    with pytest.raises(ValueError, match="51 episodes at a delay of 4 steps; valid: 1 to the 50"):
        arms_of(["rtc"], [(4, 51)], 50)


def test_every_scene_is_run_in_every_arm(config: EvaluationConfig) -> None:
    seen: list[Any] = []
    arms = arms_of(["rtc"], [(4, None)], 2)
    result = compare_delays([config], arms, progress=seen.append)
    assert len(seen) == len(result["episodes"]) == 4
    first, second = result["episodes"][:2]
    assert first["seed"] == second["seed"]
    assert (first["schedule"], second["schedule"]) == ("asynchronous", "rtc")
    assert first["digest"] != second["digest"]
    assert result["figures"]["success_rate"] == 0.0, "0.8 s are too short"
    assert result["figures"]["sampler_cost_ratio"] > 1.0
    assert [row["arm"] for row in result["table"]] == ["asynchronous_d0", "rtc_d4"]


def test_a_comparison_goes_on_where_it_was_stopped(
    config: EvaluationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [config, replace(config, suite="follow")]
    arms = arms_of(["asynchronous"], [(4, None), (2, 1)], 2)
    assert len(jobs_of(configs, arms)) == 2 * (2 + 2 + 1)
    whole = compare_delays(configs, arms, tmp_path)
    file = tmp_path / NAME
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 10
    file.write_bytes(b"".join(lines[:8]) + lines[8][:30])  # killed while it wrote
    run: list[Any] = []
    run_jobs = delay_comparison.run_jobs

    def recording(config: Any, work: Any, jobs: Any) -> Any:
        run.extend(jobs)
        return run_jobs(config, work, jobs)

    monkeypatch.setattr(delay_comparison, "run_jobs", recording)
    seen: list[Any] = []
    again = compare_delays(configs, arms, tmp_path, seen.append)
    assert (len(run), len(seen)) == (3, 10)
    assert again["episodes"] == whole["episodes"]
    assert again["table"] == whole["table"]
    assert [row["suite"] for row in again["table"]] == (
        ["touch+follow"] * 3 + ["touch"] * 3 + ["follow"] * 3
    )
    assert [row["episodes"] for row in again["table"]] == [4, 4, 2, 2, 2, 1, 2, 2, 1]
    assert {"success_rate_delay_free", "success_rate_asynchronous_d4_follow"} < (
        again["figures"].keys()
    )


def test_episodes_of_something_else_are_not_mixed_in(tmp_path: Path) -> None:
    KeptEpisodes(tmp_path, {"policy_id": "a", "robot": "panda"}).add({"seed": 1})
    assert KeptEpisodes(tmp_path, {"policy_id": "a", "robot": "panda"}).entries == [{"seed": 1}]
    with pytest.raises(ValueError, match=r"other episodes\. policy_id: there 'a', now 'b'$"):
        KeptEpisodes(tmp_path, {"policy_id": "b", "robot": "panda"})
    assert json.loads((tmp_path / NAME).read_text().splitlines()[1]) == {"seed": 1}
