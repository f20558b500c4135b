# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from made_rollouts import PERIOD, make_episode

from vla_failure import FailureDetectionError
from vla_failure.calibration import Shape
from vla_failure.detectors import score_episode
from vla_failure.detectors.controls import Clock
from vla_failure.episodes import Episode
from vla_failure.measures.alarms import (
    Alarm,
    alarm_figures,
    in_time,
    rate_figures,
    times_to_success,
)
from vla_failure.measures.brier import Probability, open_inferences, sequential_brier
from vla_failure.measures.intervals import (
    auc_interval,
    auc_margin_interval,
    clopper_pearson,
    rate_margin_interval,
)
from vla_failure.measures.ranking import (
    Snapshot,
    average_precision,
    balanced_accuracy,
    macro_auc,
    roc_auc,
    snapshots_at,
)


def test_auc_is_the_share_of_pairs_won() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.integers(0, 6, 30).astype(float)
        failed = rng.random(30) < 0.4
        wins = np.sign(np.subtract.outer(scores[failed], scores[~failed]))
        assert roc_auc(scores, failed) == pytest.approx(np.mean(0.5 * (1.0 + wins)))
    assert roc_auc(np.ones(4), np.array([True, False, True, False])) == 0.5
    with pytest.raises(FailureDetectionError, match="0 failures among 3"):
        roc_auc(np.ones(3), np.zeros(3, bool))


def test_average_precision_by_hand() -> None:
    failed = np.array([True, False, True, False])
    # Ranked: failure (1/1), success, failure (2/3), success.
    expected = 0.5 * 1.0 + 0.5 * 2 / 3
    assert average_precision(np.array([4.0, 3.0, 2.0, 1.0]), failed) == pytest.approx(expected)
    assert average_precision(np.ones(4), failed) == 0.5, "ties fall together"


def test_balanced_accuracy_by_hand() -> None:
    failed = np.array([True, True, False, False, False, False])
    alarmed = np.array([True, False, True, False, False, False])
    assert balanced_accuracy(alarmed, failed) == 0.5 * (0.5 + 0.75)


def uneven(seed: int) -> Episode:
    """A success is over after half a time; a failure goes on to the limit."""
    failed = seed % 2 == 1
    return make_episode(
        seed,
        "failure" if failed else "success",
        steps=20 if failed else 10,
        **({"onset_step": 12} if failed else {"success_time": 4.0}),
    )


def test_a_clock_tells_nothing_at_a_fixed_time_and_everything_at_the_end() -> None:
    """The positive control: with episode lengths leaked, counting is a perfect detector."""
    episodes = [uneven(seed) for seed in range(20)]
    scores = [score_episode(Clock(), episode) for episode in episodes]
    failed = np.array([not episode.info.success for episode in episodes])
    assert roc_auc(np.array([s[-1] for s in scores]), failed) == 1.0
    assert macro_auc(snapshots_at(episodes, scores, 0.5)) == 0.5
    assert macro_auc(snapshots_at(episodes, scores, 0.25)) == 0.5


def test_only_open_episodes_count_and_the_others_are_counted() -> None:
    episodes = [
        make_episode(0, success_time=4.0),
        make_episode(1, success_time=4.2),
        make_episode(2, success_time=1.9),
        make_episode(3, "failure", onset_step=4),
        make_episode(4, "failure", onset_step=9),
        make_episode(5, "timeout"),
    ]
    scores = [np.arange(10.0) + 100.0 * seed for seed in range(6)]
    (snapshot,) = snapshots_at(episodes, scores, 0.5).values()
    assert snapshot.time == 2.0
    assert (snapshot.succeeded_before, snapshot.failed_before) == (1, 1)
    assert snapshot.timed_out.sum() == 1
    # At 2.0 s the last inference was the one at 5 · 0.4 s.
    assert snapshot.scores.tolist() == [5.0, 105.0, 405.0, 505.0]
    assert snapshot.failed.tolist() == [False, False, True, True]
    assert snapshot.auc() == 1.0
    assert snapshot.without_timeouts().scores.tolist() == [5.0, 105.0, 405.0]
    with pytest.raises(FailureDetectionError, match="p-0 has 10 steps and 3 scores"):
        snapshots_at(episodes, [s[:3] for s in scores], 0.5)
    assert snapshots_at(episodes[3:], scores[3:], 0.5) == {}, "no success to take a time from"


@pytest.mark.parametrize(
    ("field", "within"),
    [("perturbation", Snapshot.auc_within_groups), ("policy_id", Snapshot.auc_within_policies)],
)
def test_within_a_group_the_group_tells_nothing(
    field: str, within: Callable[[Snapshot], float | None]
) -> None:
    kinds = ["none"] * 10 + ["bias"] * 10
    episodes = [
        make_episode(seed, "failure" if failed else "success", **{field: kind},
                     **({"onset_step": 9} if failed else {}))
        for seed, (kind, failed) in enumerate(
            zip(kinds, [True] + [False] * 9 + [True] * 9 + [False], strict=True)
        )
    ]  # fmt: skip
    scores = [np.full(10, float(getattr(e.info, field) == "bias")) for e in episodes]
    found = snapshots_at(episodes, scores, 0.5)
    assert macro_auc(found) == pytest.approx(0.9)
    assert macro_auc(found, within) == 0.5


def test_exact_intervals() -> None:
    assert clopper_pearson(0, 10) == (0.0, pytest.approx(0.3085, abs=1e-4))
    assert clopper_pearson(10, 10) == (pytest.approx(0.6915, abs=1e-4), 1.0)
    assert clopper_pearson(5, 20) == pytest.approx((0.0866, 0.4910), abs=1e-4)
    with pytest.raises(FailureDetectionError, match="3 of 2"):
        clopper_pearson(3, 2)


def synthetic(rng: np.random.Generator, lift: float, tasks: int = 6) -> dict[str, list[Snapshot]]:
    """Two detectors on the same episodes; the first lifts failures by so much more."""
    found: dict[str, list[Snapshot]] = {}
    for task in range(tasks):
        failed = np.arange(40) < 15
        shared = rng.normal(size=40) + (0.8 + 0.3 * rng.normal()) * failed
        found[f"t{task}"] = [
            Snapshot(1.0, shared + own, failed, np.zeros(40, bool), *[np.full(40, "p")] * 2, 0, 0)
            for own in (
                0.4 * rng.normal(size=40) + lift * failed,
                0.4 * rng.normal(size=40),
            )
        ]
    return found


def margin(found: dict[str, list[Snapshot]], resamples: int = 300) -> tuple[float, float, float]:
    ours, other = ({task: pair[side] for task, pair in found.items()} for side in (0, 1))
    interval = auc_margin_interval([ours], [other], resamples=resamples)
    return interval.value, interval.low, interval.high


def test_a_margin_that_is_not_there_is_rarely_found() -> None:
    excluded = 0
    for seed in range(120):
        _, low, high = margin(synthetic(np.random.default_rng([seed, 4]), 0.0))
        excluded += not low <= 0.0 <= high
    assert excluded <= 14, "5 % of 120 and four standard deviations"


def test_a_margin_that_is_there_is_found() -> None:
    value, low, high = margin(synthetic(np.random.default_rng(1), 1.0))
    assert 0.0 < low < value < high


def test_pairing_makes_intervals_narrower() -> None:
    found = synthetic(np.random.default_rng(2), 0.3)
    _, low, high = margin(found, 1000)
    single = [
        auc_interval([{task: pair[side] for task, pair in found.items()}], resamples=1000)
        for side in (0, 1)
    ]
    unpaired = np.hypot(*(s.high - s.low for s in single))
    assert high - low < 0.7 * unpaired
    assert single[0].value == pytest.approx(
        macro_auc({task: pair[0] for task, pair in found.items()})
    )


def test_comparisons_need_the_same_episodes() -> None:
    found = synthetic(np.random.default_rng(2), 0.3)
    ours = {task: pair[0] for task, pair in found.items()}
    with pytest.raises(FailureDetectionError, match="the same episodes"):
        auc_margin_interval([ours], [{task: ours[task] for task in list(ours)[1:]}])
    other = {task: replace(s, failed=~s.failed) for task, s in ours.items()}
    with pytest.raises(FailureDetectionError, match="the same episodes"):
        auc_margin_interval([ours], [other])
    with pytest.raises(FailureDetectionError, match="the repeats have other episodes of 't0'"):
        auc_interval([ours, other])


def test_repeats_are_averaged_and_are_no_further_episodes() -> None:
    one, other = (synthetic(np.random.default_rng(3), lift) for lift in (0.0, 1.0))
    runs = [{task: pair[0] for task, pair in found.items()} for found in (one, other)]
    both = auc_interval(runs, resamples=500)
    assert both.value == pytest.approx(np.mean([macro_auc(run) for run in runs]))
    single, doubled = (auc_interval(r, resamples=500) for r in (runs[:1], runs[:1] * 2))
    assert single == doubled


def test_trials_that_were_repeated_count_once() -> None:
    found = rate_figures("rate", [0.0, 0.5, 1.0, 1.0, 0.5])
    low, high = clopper_pearson(3, 5)
    assert found == {"rate": pytest.approx(0.6), "rate_low": low, "rate_high": high}


def test_alarms_by_hand() -> None:
    onset = 4  # 1.6 s
    alarms = [
        Alarm(make_episode(0), None),
        Alarm(make_episode(1), 3),
        Alarm(make_episode(2), None),
        Alarm(make_episode(3, "failure", onset_step=onset), 1),
        Alarm(make_episode(4, "failure", onset_step=onset), onset + 2),
        Alarm(make_episode(5, "failure", onset_step=onset), onset + 3),
        Alarm(make_episode(6, "failure", onset_step=onset), None),
        Alarm(make_episode(7, "timeout"), 2),
        Alarm(make_episode(8, "timeout"), None),
    ]
    assert alarms[4].delay == pytest.approx(2 * PERIOD)
    figures = alarm_figures(alarms)
    counts = {
        "false_alarm_rate": (1, 3),
        "detection_rate": (3, 4),
        "failures_flagged_in_time_rate": (2, 4),
        "timeouts_flagged_rate": (1, 2),
        "timeouts_flagged_in_time_rate": (1, 2),
    }
    bounds = {}
    for rate, (hits, trials) in counts.items():
        bounds[f"{rate}_low"], bounds[f"{rate}_high"] = clopper_pearson(hits, trials)
    assert figures == {
        **bounds,
        "false_alarm_rate": pytest.approx(1 / 3),
        "detection_rate": 0.75,
        "failures_flagged_in_time_rate": 0.5,  # 1.2 s after the onset is too late
        "failures_flagged_ahead_rate": 0.25,
        "balanced_accuracy": pytest.approx(0.5 * (0.75 + 2 / 3)),
        "successes_count": 3.0,
        "failures_count": 4.0,
        "timeouts_count": 2.0,
        "detection_delay_p50_s": pytest.approx(2 * PERIOD),
        "timeouts_flagged_rate": 0.5,
        "timeouts_flagged_in_time_rate": 0.5,
    }
    with pytest.raises(FailureDetectionError, match="no success among 6 episodes"):
        alarm_figures(alarms[3:])
    known = alarm_figures([*alarms[:3], *alarms[7:]])
    assert known["failures_count"] == 0.0
    assert not any(name.startswith(("failures_flagged", "detection")) for name in known)


def test_a_timeout_is_flagged_in_time_while_the_task_can_still_be_done() -> None:
    # Of 8 s the task takes 4 s, so 4 s after the start it is not too late.
    successes = [Alarm(make_episode(seed, success_time=4.0), None) for seed in range(3)]
    for step, hit in ((0, True), (10, True), (11, False), (None, False)):
        timeout = Alarm(make_episode(3, "timeout", steps=20), step)
        assert in_time(timeout, times_to_success(successes)) is hit
        assert alarm_figures([*successes, timeout])["timeouts_flagged_in_time_rate"] == hit
    assert in_time(successes[0], {"pick": 4.0}) is None
    assert in_time(timeout, {"push": 4.0}) is None, "nobody knows how long it takes"


def test_brier_by_hand() -> None:
    success, failure = make_episode(0), make_episode(1, "failure")
    timeout = make_episode(2, "timeout")
    assert [open_inferences(e) for e in (success, failure, timeout)] == [10, 5, 10]
    # Only what comes before the onset counts, and every episode the same.
    told = [np.full(10, 0.2), np.concatenate([np.full(5, 0.6), np.zeros(5)]), np.ones(10)]
    found = sequential_brier([success, failure, timeout], told)
    assert found == pytest.approx((0.04 + 0.16 + 0.0) / 3)
    lost = make_episode(3, "failure", onset_step=0)
    assert sequential_brier([lost], [np.ones(10)]) is None, "there is nothing left to forecast"


def test_probabilities_are_the_shares_of_failures() -> None:
    episodes = [
        make_episode(seed, "failure" if seed % 4 == 0 else "success", **onset(seed))
        for seed in range(80)
    ]
    rng = np.random.default_rng(0)
    told = [rng.normal(2.0 * (not e.info.success), 1.0, 10) for e in episodes]
    shape = Shape.of([s for e, s in zip(episodes, told, strict=True) if e.info.success])
    blind = Probability.fit(shape, episodes, [np.zeros(10)] * 80)
    assert blind.of(np.zeros(10)) == pytest.approx(0.25, abs=0.08)
    sighted = Probability.fit(shape, episodes, told)
    rising = sighted.of(np.linspace(-2.0, 4.0, 10))
    # The same at all steps but for the band's centre: more suspicion is more probability.
    assert rising[-1] > 0.6 > 0.2 > rising[0]
    scores = [sequential_brier(episodes, [p.of(s) for s in told]) for p in (blind, sighted)]
    assert scores[1] is not None
    assert scores[0] is not None
    assert scores[1] < scores[0]


def onset(seed: int) -> dict[str, int]:
    return {"onset_step": 9} if seed % 4 == 0 else {}


def test_a_margin_of_rates_is_paired() -> None:
    rng = np.random.default_rng(1)
    tasks = [f"t{i}" for i in range(8)]
    ours = {task: (rng.random(40) < 0.7).astype(float) for task in tasks}
    other = {task: hits * (rng.random(40) < 0.8) for task, hits in ours.items()}
    margin = rate_margin_interval([ours], [other])
    flat = [np.concatenate([run[t] for t in tasks]).mean() for run in (ours, other)]
    assert margin.value == pytest.approx(flat[0] - flat[1])
    assert 0.0 < margin.low < margin.value < margin.high
    same = rate_margin_interval([ours, other], [other, ours])
    assert (same.low, same.value, same.high) == (0.0, 0.0, 0.0)
    with pytest.raises(FailureDetectionError, match="same episodes"):
        rate_margin_interval([ours], [{**other, "t0": np.ones(3)}])
