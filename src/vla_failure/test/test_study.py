# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from made_rollouts import make_episode

from vla_failure import FailureDetectionError
from vla_failure.detectors import CONTROLS
from vla_failure.episodes import Episode
from vla_failure.report.candidates import candidates
from vla_failure.report.figures import Results, unseen_figures
from vla_failure.report.keeping import Keeper, Scored
from vla_failure.report.page import render_page, verdicts
from vla_failure.report.plots import draw_plots
from vla_failure.report.study import BEST_OTHER, OURS, Fold, Study, cross_validate
from vla_failure.report.writing import make_report
from vla_failure.splits import Shares

TASKS = ("pick", "push", "stack", "touch")
QUICK = {"updates": 10, "learning_rate": 1e-2, "hidden": 8}
STUDY = Study(
    {
        "fused": [{"components": 4}],
        "safe_mlp": [{**QUICK, "updates": 1, "learning_rate": 1e-9}, {**QUICK, "updates": 60}],
        "mahalanobis": [{"accumulate": "sum"}],
        "proprioception": [QUICK],
        "sample_variance": [{}],
    },
    folds=2,
    repeats=2,
    shares=Shares(0.4, 0.25, 0.25, 0.1),
)


def rollouts() -> list[Episode]:
    """Failures show soon after the start in the features, and not at all in the states."""
    made = []
    for number, task in enumerate(TASKS):
        for seed in range(40):
            failed = (seed + number) % 3 == 0
            episode = make_episode(
                1000 * number + seed,
                "failure" if failed else "success",
                samples=3 if seed < 30 else 0,
                task=task,
                shift=2.0,
                **({"onset_step": 2} if failed else {"success_time": 3.9}),
            )
            # The seed decides the part; the onset is noted later than it shows.
            info = replace(episode.info, seed=seed, onset_step=8 if failed else None)
            states = np.random.default_rng(seed).normal(size=(10, 4)).astype(np.float32)
            made.append(replace(episode, info=info, states=states))
    return made


@pytest.fixture(scope="module")
def folds() -> list[Fold]:
    return cross_validate(rollouts(), STUDY)


def test_every_task_is_judged_once_per_repeat_by_what_never_saw_it(folds: list[Fold]) -> None:
    for repeat in range(2):
        part = [fold for fold in folds if fold.repeat == repeat]
        assert sorted(task for fold in part for task in fold.unseen) == sorted(TASKS)
    for fold in folds:
        assert fold.judged.keys() == {*STUDY.candidates, *CONTROLS}
        for judged in fold.judged.values():
            assert {episode.info.task for episode in judged.episodes} == set(fold.unseen)
        assert fold.best_other in ("safe_mlp", "mahalanobis")
        assert fold.of(BEST_OTHER) is fold.judged[fold.best_other]
        # A network that has hardly been trained tells nothing apart.
        assert fold.judged["safe_mlp"].settings == STUDY.candidates["safe_mlp"][1]
        assert len(fold.judged["sample_variance"].episodes) == 60
        assert len(fold.judged[OURS].episodes) == 80


def test_figures_on_unseen_tasks(folds: list[Fold]) -> None:
    figures = unseen_figures(Results.of(folds, STUDY))
    assert figures["unseen_auc_clock"] == 0.5, "by construction"
    assert figures["unseen_auc_early_clock"] == figures["unseen_auc_late_clock"] == 0.5
    assert figures["unseen_auc_task_id"] == 0.5
    assert figures["unseen_auc"] > 0.8
    assert figures["unseen_auc_low"] <= figures["unseen_auc"] <= figures["unseen_auc_high"]
    assert figures["unseen_auc_safe_mlp"] > 0.7
    assert 0.3 < figures["unseen_auc_proprioception"] < 0.7
    assert 0.3 < figures["unseen_auc_random"] < 0.7
    low, high = (figures[f"unseen_auc_margin_over_best_other_{end}"] for end in ("low", "high"))
    assert low <= figures["unseen_auc_margin_over_best_other"] <= high
    assert figures["unseen_auc_margin_over_best_other"] == pytest.approx(
        figures["unseen_auc"] - figures["unseen_auc_best_other"]
    )
    assert figures["unseen_false_alarm_rate_error"] == pytest.approx(
        abs(figures["unseen_false_alarm_rate"] - 0.15), abs=0.05
    )
    assert (
        figures["failures_flagged_in_time_rate"] > figures["failures_flagged_in_time_rate_random"]
    )
    assert {
        "unseen_auc_within_perturbation",
        "unseen_detection_rate",
        "unseen_false_alarm_rate_fixed",
        "unseen_false_alarm_rate_error_feedback_20",
        "unseen_false_alarm_rate_low",
        "unseen_left_out_failed_before_count",
    } <= figures.keys()
    assert figures["unseen_successes_count"] + figures["unseen_failures_count"] == 160.0
    assert all(np.isfinite(value) for value in figures.values())


def test_the_report_prints_every_control_and_says_what_it_is_of(
    folds: list[Fold], tmp_path: Path
) -> None:
    policy = {"policy_id": "p", "feature_shape": [5, 16, 6]}
    report = json.loads(json.dumps(make_report(rollouts(), folds, STUDY, [policy])))
    rows = {row["name"]: row for row in report["detectors"]}
    assert rows.keys() == {*STUDY.candidates, *CONTROLS}
    assert rows["clock"]["auc"] == 0.5
    # A forecast that knows nothing is as good as the share of failures, one third.
    assert rows["clock"]["brier"] == pytest.approx(2 / 9, abs=0.03)
    assert rows[OURS]["brier"] < 0.8 * rows["clock"]["brier"]
    assert rows[OURS]["average_precision"] > rows["random"]["average_precision"]
    assert [row["task"] for row in report["tasks"]] == sorted(TASKS)
    for row in report["tasks"]:
        left_out = row["succeeded_before"] + row["failed_before"] + row["timeouts"]
        assert row["successes"] + row["failures"] + left_out == 40
    drawn = report["curves"]
    assert drawn["precision_recall"]["precision"][OURS][0] > 0.9
    leads = drawn["lead_times_s"][OURS]
    assert len(leads["lead_s"]) + leads["not_alarmed"] == leads["failures"] > 0
    accuracy = drawn["balanced_accuracy"][OURS]
    assert max(point["balanced_accuracy"] for point in accuracy) > 0.7
    plots = draw_plots(report, tmp_path)
    for name in plots:
        height, width = matplotlib.image.imread(tmp_path / name).shape[:2]
        assert min(height, width) > 150
    page = render_page(report, plots)
    assert all(f'src="{name}"' in page for name in plots)
    assert "features of a nano policy" in page
    assert "vla failure import openpi" in page
    for name in CONTROLS:
        assert f"<td>{name.replace('_', ' ')}</td>" in page
    figures = report["figures"]
    low = figures["unseen_auc_margin_over_best_other_low"]
    assert ("lies above zero" in page) == (low > 0.0)
    tied = {**figures, "unseen_auc_margin_over_best_other_low": -0.1}
    assert "only ties" in " ".join(verdicts({**report, "figures": tied}))
    blind = {**figures, "unseen_auc": 0.5}
    assert "Warning: clock" in " ".join(verdicts({**report, "figures": blind}))


def test_detectors_of_samples_need_enough_episodes_that_have_them() -> None:
    few = rollouts()
    assert sum(episode.samples is not None for episode in few) == 120
    assert not {"stac", "sample_variance", "cluster_entropy"} & candidates(few).keys()
    assert {"stac", "sample_variance", "cluster_entropy"} < candidates(few * 2).keys()


def test_the_best_other_is_named_without_looking_at_held_out_tasks(folds: list[Fold]) -> None:
    spoiled = [
        replace(e, features=np.random.default_rng(e.info.seed)
                .normal(size=e.features.shape).astype(np.float16))
        if e.info.task in folds[0].unseen else e
        for e in rollouts()
    ]  # fmt: skip
    again = cross_validate(spoiled, replace(STUDY, repeats=1))[0]
    assert again.unseen == folds[0].unseen
    for name, judged in folds[0].judged.items():
        assert again.judged[name].seen_auc == judged.seen_auc, name
        assert again.judged[name].settings == judged.settings
    assert again.best_other == folds[0].best_other
    # The positive control: the scores of the held-out tasks are others.
    assert not np.array_equal(again.judged[OURS].scores[0], folds[0].judged[OURS].scores[0])


def test_a_study_that_was_broken_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    study = replace(
        STUDY, candidates={n: STUDY.candidates[n] for n in (OURS, "mahalanobis", "proprioception")}
    )
    study = replace(study, repeats=1)
    episodes = [e for e in rollouts() if e.info.seed < 32]
    names: list[str] = []

    def stop(name: str) -> None:
        names.append(name)
        if len(names) == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cross_validate(episodes, study, stop, tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 12
    found = cross_validate(episodes, study, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 * len(study.all_candidates)
    assert all(path.stat().st_mtime_ns == since for path, since in kept.items())
    for fold, whole in zip(found, cross_validate(episodes, study), strict=True):
        assert fold.best_other == whole.best_other
        for name, judged in fold.judged.items():
            other = whole.judged[name]
            assert judged.settings == other.settings
            assert all(map(np.array_equal, judged.scores, other.scores)), name
            assert judged.test.keys() == other.test.keys()
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(FailureDetectionError, match="cannot be read"):
        cross_validate(episodes, study, folder=tmp_path)


def test_scores_are_kept_for_what_they_were_found_for(tmp_path: Path) -> None:
    episodes = rollouts()[:8]
    keeper = Keeper(tmp_path, episodes, {"seed": 0})
    found = Scored({"hidden": 8}, 0.7, {"a": np.array([0.1, 1.0 / 3.0])})
    keeper.keep("safe_mlp", ["pick"], found)
    again = Keeper(tmp_path, episodes[::-1], {"seed": 0}).find("safe_mlp", ["pick"])
    assert again is not None
    assert (again.settings, again.seen_auc) == (found.settings, found.seen_auc)
    assert again.scores["a"].tolist() == found.scores["a"].tolist(), "to the last bit"
    assert keeper.find("safe_mlp", ["push"]) is None
    assert keeper.find("safe_lstm", ["pick"]) is None
    assert Keeper(tmp_path, episodes, {"seed": 1}).find("safe_mlp", ["pick"]) is None
    assert Keeper(tmp_path, episodes[1:], {"seed": 0}).find("safe_mlp", ["pick"]) is None


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ({"safe_mlp": [{}], "rnd": [{}]}, "needs 'fused' and another"),
        ({"fused": [{}], "clock": [{}]}, "needs 'fused' and another"),
        ({"fused": [{}], "safe_mlp": []}, "no settings to choose among for 'safe_mlp'"),
        ({"fused": [{}], "safe_mlp": [{"width": 1}]}, "unknown settings"),
        ({"fused": [{}], "safe": [{}]}, "unknown detector 'safe'"),
    ],
)
def test_bad_studies_are_refused(candidates: dict[str, object], message: str) -> None:
    with pytest.raises(FailureDetectionError, match=message):
        Study(candidates)  # type: ignore[arg-type]
