# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vla_policy.checkpoint import add_selection_seeds, read_manifest
from vla_policy.evaluation.evaluate import (
    EvaluationConfig,
    check_seeds,
    compared,
    evaluate,
    evaluation_jobs,
)
from vla_policy.evaluation.figures import figures, table
from vla_policy.evaluation.page import draw_page
from vla_policy.evaluation.rollout import EpisodeResult
from vla_policy.types import CheckpointError, SeedOverlapError


def episode(task: str, seed: int, success: bool, named: str, lifted: str | None) -> EpisodeResult:
    return EpisodeResult(
        task=task,
        suite="basic",
        seed=seed,
        instruction=f"{task} the {named} block",
        success=success,
        time_s=3.0,
        named_object=named,
        lifted_object=lifted,
        touched_object=lifted,
        approached_object=lifted or named,
        path_length_m=0.5 + 0.1 * seed,
        peak_force_n=4.0,
        seam_jerk=2.0,
        absent=False,
        dropped=False,
        retouched=False,
        inferences=8,
        rejected=0,
        digest="0",
    )


def test_figures_of_known_episodes() -> None:
    results = [
        episode("pick", 0, True, "red", "red"),
        episode("pick", 1, False, "red", "blue"),
        episode("pick", 2, False, "red", None),
        episode("pick", 3, True, "red", "red"),
        episode("touch", 0, True, "red", None),
    ]
    values = figures(results)
    assert values["success_rate_pick"] == 0.5
    assert values["success_rate_touch"] == 1.0
    assert values["success_rate"] == 0.75
    assert values["success_rate_min_task"] == 0.5
    assert values["lift_rate"] == 0.75
    assert values["wrong_object_rate"] == pytest.approx(1 / 3)
    assert values["intention_rate"] == 0.8
    assert "false_completion_rate" not in values
    pick, touch = table(results)
    assert (pick["task"], touch["task"]) == ("pick", "touch")
    low, high = pick["success_wilson_95"]
    assert low < 0.5 < high
    assert pick["intention_rate"] == 0.75
    assert pick["path_length_m"] == pytest.approx(0.65), "the median of those that succeeded"


def test_absent_objects_have_no_intention_and_lost_ones_tell_false_completion() -> None:
    plain = episode("pick", 0, False, "red", "red")
    lost = replace(plain, suite="drop", dropped=True)
    results = [
        lost,
        replace(lost, retouched=True),
        replace(lost, retouched=True, success=True),
        replace(plain, suite="drop"),
    ]
    assert figures(results)["false_completion_rate"] == pytest.approx(1 / 3)
    (row,) = table(results)
    assert (row["dropped"], row["false_completion_rate"]) == (3, pytest.approx(1 / 3))
    waiting = [replace(plain, suite="absent", absent=True, success=True)]
    assert "intention_rate" not in figures(waiting)
    assert table(waiting)[0]["intention_rate"] is None


def test_page_of_plots_is_drawn(tmp_path: Path) -> None:
    results = [
        replace(episode(task, seed, seed < 3, "red", None), suite=suite, absent=suite == "absent")
        for suite in ("core", "absent")
        for task in (("touch", "pick") if suite == "core" else ("touch",))
        for seed in range(4)
    ]
    draw_page(table(results), tmp_path / "page.png", "a policy")
    assert (tmp_path / "page.png").read_bytes()[1:4] == b"PNG"


def test_without_lifts_there_is_no_wrong_object_rate() -> None:
    assert "wrong_object_rate" not in figures([episode("touch", 0, True, "red", None)])


def test_seeds_of_demonstrations_and_selection_are_refused(checkpoint: Path) -> None:
    manifest = read_manifest(checkpoint)
    with pytest.raises(SeedOverlapError, match="demonstrations of pick"):
        check_seeds(manifest, [4_000_006, 4_000_007], "evaluation")
    with pytest.raises(SeedOverlapError, match="3"):
        check_seeds(manifest, [3], "evaluation")
    with pytest.raises(SeedOverlapError, match="selection"):
        check_seeds(manifest, [1_000_001], "evaluation")
    check_seeds(manifest, [1_000_001], "selection")
    check_seeds(manifest, [4_000_000, 4_000_001], "evaluation")


def test_manifests_hold_ranges_of_seeds(checkpoint: Path) -> None:
    stored = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
    assert stored["demonstrations"][0]["seeds"] == [[1, 2], [4_000_007, 4_000_007]]
    assert stored["selection_seeds"] == [[1_000_000, 1_000_001]]
    assert read_manifest(checkpoint)["demonstrations"][0]["seeds"] == [1, 2, 4_000_007]


@pytest.mark.parametrize("ranges", ["17", "[17]", "[[1, 2, 3]]", '[["a", "b"]]'])
def test_a_manifest_with_unreadable_seeds_is_refused(checkpoint: Path, ranges: str) -> None:
    manifest = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
    manifest["selection_seeds"] = json.loads(ranges)
    (checkpoint / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        read_manifest(checkpoint)


def test_seeds_of_a_selection_are_noted(checkpoint: Path) -> None:
    add_selection_seeds(checkpoint, range(1_000_001, 1_000_004))
    manifest = read_manifest(checkpoint)
    assert manifest["selection_seeds"] == [1_000_000, 1_000_001, 1_000_002, 1_000_003]
    assert manifest["demonstrations"][0]["failed_seeds"] == [3]


def test_an_evaluation_with_used_seeds_does_not_start(checkpoint: Path) -> None:
    config = EvaluationConfig(checkpoint, suite="pick", episodes=8, workers=1)
    with pytest.raises(SeedOverlapError, match="4000007"):
        evaluate(config)


def test_tasks_of_any_suite_can_be_chosen(checkpoint: Path) -> None:
    config = EvaluationConfig(checkpoint, suite="dim", episodes=2, tasks=("wipe",), first=50)
    assert evaluation_jobs(config) == [("wipe", 4_000_050), ("wipe", 4_000_051)]


def outcomes(policy: str, successes: list[bool]) -> dict[str, Any]:
    scenes = [{"suite": "dim", "task": "pick", "seed": i} for i in range(len(successes))]
    return {
        "figures": {"success_rate": sum(successes) / len(successes)},
        "settings": {"policy_id": policy},
        "episodes": [{**one, "success": won} for one, won in zip(scenes, successes, strict=True)],
    }


def test_policies_are_compared_scene_by_scene() -> None:
    hard = [True] * 30 + [False] * 30
    better = compared(outcomes("new", [*hard[:45], *[True] * 15]), outcomes("old", hard))
    numbers = better["figures"]
    assert numbers["success_difference"] == pytest.approx(0.25)
    assert 0.1 < numbers["success_difference_low"] < 0.25 < numbers["success_difference_high"] < 0.4
    assert better["settings"] == {"policy_id": "new", "against": "old"}
    same = compared(outcomes("new", hard), outcomes("old", [*hard, True]))["figures"]
    assert same["success_difference_low"] == same["success_difference_high"] == 0.0
    with pytest.raises(
        ValueError, match=r"lacks 10 of the 60 scenes, e\.g\. \('dim', 'pick', 50\)"
    ):
        compared(outcomes("new", hard), outcomes("old", hard[:50]))


def test_an_evaluation_without_a_manifest_does_not_start(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        evaluate(EvaluationConfig(checkpoint, suite="pick", episodes=1, workers=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "hard"}, "basic"),
        ({"tasks": ("juggle",)}, r"unknown tasks \['juggle'\]; valid: touch"),
        ({"purpose": "rollouts"}, "selection"),
        ({"episodes": 0}, "1"),
    ],
)
def test_invalid_settings_name_the_valid_ones(
    checkpoint: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(checkpoint, **change)  # type: ignore[arg-type]
