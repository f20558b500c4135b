# SPDX-License-Identifier: Apache-2.0
"""Promises of the bands, checked on episodes for which they must hold, and where they must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from made_rollouts import BINDING

from vla_failure import FailureDetectionError
from vla_failure.calibration import (
    AdaptiveBand,
    Calibration,
    Shape,
    fit_band,
    fit_task_bands,
    order_statistic,
    prequential,
)
from vla_failure.calibration.band import EPSILON, scaled

Scores = npt.NDArray[np.float64]
ALPHA = 0.15
LIMIT = 30


def successes(rng: np.random.Generator, count: int, scale: float = 1.0) -> list[Scores]:
    """Scores that grow with time and wander, of episodes that end when they succeed."""
    drawn = []
    for _ in range(count):
        steps = int(rng.integers(8, 20))
        level = np.exp(0.4 * scale * rng.normal())
        drawn.append(np.cumsum(level * rng.uniform(0.0, 1.0, steps)))
    return drawn


def false_alarm_rate(
    fit: Callable[[np.random.Generator], Callable[[Scores], bool]],
    draw: Callable[[np.random.Generator, int], list[Scores]] = successes,
    repeats: int = 300,
) -> tuple[float, float]:
    """Mean over calibrations of the share of alarmed successes, and its standard error."""
    rates = []
    for repeat in range(repeats):
        rng = np.random.default_rng([repeat, 1])
        alarms = fit(rng)
        rates.append(np.mean([alarms(scores) for scores in draw(rng, 40)]))
    return float(np.mean(rates)), float(np.std(rates) / np.sqrt(repeats))


def banded(rng: np.random.Generator, calibrate: int = 20) -> Callable[[Scores], bool]:
    band = fit_band(successes(rng, 20), successes(rng, calibrate), ALPHA)
    return lambda scores: band.first_alarm(scores) is not None


@pytest.mark.parametrize(("count", "expected"), [(9, 0.10), (20, 3 / 21), (40, 6 / 41)])
def test_false_alarms_are_as_rare_as_promised(count: int, expected: float) -> None:
    """Exchangeable episodes: the rate is (n + 1 − k) / (n + 1), at most α."""
    rate, error = false_alarm_rate(lambda rng: banded(rng, count))
    assert expected <= ALPHA
    assert abs(rate - expected) < 4.0 * error + 0.005


def test_a_plain_quantile_alarms_too_often() -> None:
    """The positive control of the order statistic."""

    def plain(rng: np.random.Generator) -> Callable[[Scores], bool]:
        shape = Shape.of(successes(rng, 20))
        excesses = [shape.largest_excess(scores) for scores in successes(rng, 20)]
        quantile = np.quantile(excesses, 1.0 - ALPHA)
        return lambda scores: shape.largest_excess(scores) > quantile

    rate, error = false_alarm_rate(plain)
    assert rate > ALPHA + 3.0 * error


def test_a_shape_from_the_calibration_successes_alarms_too_often() -> None:
    """The positive control of the split: what shapes the band must not scale it."""

    def reused(rng: np.random.Generator) -> Callable[[Scores], bool]:
        same = successes(rng, 8)
        band = fit_band(same, same, ALPHA)
        return lambda scores: band.first_alarm(scores) is not None

    rate, error = false_alarm_rate(reused)
    assert rate > ALPHA + 3.0 * error


def test_calibration_on_cut_episodes_leaks_their_length() -> None:
    """Calibrated on episodes cut at success, used on episodes that run to the limit."""

    def running_on(rng: np.random.Generator, count: int) -> list[Scores]:
        return [
            np.concatenate([s, s[-1] + np.cumsum(rng.uniform(0.0, 1.0, LIMIT - len(s)))])
            for s in successes(rng, count)
        ]

    rate, error = false_alarm_rate(banded, running_on)
    assert rate > ALPHA + 10.0 * error
    honest, _ = false_alarm_rate(
        lambda rng: _alarms_of(fit_band(running_on(rng, 20), running_on(rng, 20), ALPHA)),
        running_on,
    )
    assert honest <= ALPHA + 0.01


def _alarms_of(band: object) -> Callable[[Scores], bool]:
    return lambda scores: band.first_alarm(scores) is not None  # type: ignore[attr-defined]


def test_ties_do_not_alarm() -> None:
    """With scores of few values, "at or above" would break the promise; "above" keeps it."""

    def steps(rng: np.random.Generator, count: int) -> list[Scores]:
        return [rng.integers(0, 3, 5).astype(float) for _ in range(count)]

    def strict(rng: np.random.Generator) -> Callable[[Scores], bool]:
        return _alarms_of(fit_band(steps(rng, 20), steps(rng, 20), ALPHA))

    def loose(rng: np.random.Generator) -> Callable[[Scores], bool]:
        band = fit_band(steps(rng, 20), steps(rng, 20), ALPHA)
        return lambda scores: band.shape.largest_excess(scores) >= band.quantile

    assert false_alarm_rate(strict, steps, 100)[0] <= ALPHA
    assert false_alarm_rate(loose, steps, 100)[0] > 2.0 * ALPHA


def test_no_calibration_success_alarms_more_often_than_the_rank_allows() -> None:
    rng = np.random.default_rng(5)
    calibrate = successes(rng, 33)
    band = fit_band(successes(rng, 20), calibrate, ALPHA)
    assert sum(band.first_alarm(scores) is not None for scores in calibrate) == 33 - 29
    assert band.count == 33
    # The threshold that people see is the one that decides, but for rounding.
    for scores in calibrate:
        above = [s > band.threshold(t) + 1e-9 for t, s in enumerate(scores)]
        assert any(above) == (band.first_alarm(scores) is not None)
        online = [band.alarms(step, float(score)) for step, score in enumerate(scores)]
        assert (online.index(True) if any(online) else None) == band.first_alarm(scores)


@pytest.mark.parametrize(
    ("n", "alpha", "rank"),
    [(9, 0.15, 9), (9, 0.1, 9), (19, 0.05, 19), (20, 0.15, 18), (99, 0.15, 85)],
)
def test_the_order_statistic_is_exact(n: int, alpha: float, rank: int) -> None:
    values = np.random.default_rng(0).permutation(np.arange(1.0, n + 1.0))
    assert order_statistic(values, alpha) == rank


def test_what_cannot_be_promised_is_refused() -> None:
    with pytest.raises(
        FailureDetectionError, match=r"n = 5 .* needed are 6, or an alpha of 0.1667"
    ):
        order_statistic(np.arange(5.0), ALPHA)
    for alpha in (0.0, 1.0, float("nan")):
        with pytest.raises(FailureDetectionError, match="between 0 and 1"):
            order_statistic(np.arange(50.0), alpha)
    rng = np.random.default_rng(0)
    with pytest.raises(FailureDetectionError, match="4 successes shape a band; needed are 5"):
        fit_band(successes(rng, 4), successes(rng, 20), ALPHA)
    band = fit_band(successes(rng, 20), successes(rng, 20), ALPHA)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(FailureDetectionError, match="finite"):
            band.alarms(3, bad)
        with pytest.raises(FailureDetectionError, match="finite"):
            fit_band(successes(rng, 20), [np.array([0.0, bad])] * 20, ALPHA)


def test_the_shape_is_the_mean_and_spread_with_a_floor() -> None:
    scores = [np.array([1.0, 2.0 + i, 3.0]) for i in range(5)] + [np.array([1.0])]
    shape = Shape.of(scores)
    assert shape.centre.tolist() == [1.0, 4.0, 3.0]
    floor = EPSILON * np.concatenate(scores).std()
    assert shape.modulation.tolist() == pytest.approx([floor, np.std(range(5), ddof=1), floor])
    # Beyond what shaped it, and where fewer than five shape it, the band goes on.
    assert len(Shape.of([np.arange(5.0)] * 5 + [np.arange(9.0)]).centre) == 5
    assert shape.excesses(np.array([3.0 + floor]), 7)[0] == pytest.approx(1.0)


def test_a_task_has_its_own_band_from_forty_successes_on() -> None:
    rng = np.random.default_rng(0)
    select = {"pick": successes(rng, 20), "push": successes(rng, 20, 2.0), "touch": []}
    calibrate = {
        "pick": successes(rng, 40),
        "push": successes(rng, 39, 2.0),
        "touch": successes(rng, 45),
    }
    bands = fit_task_bands(select, calibrate, ALPHA)
    assert bands.by_task.keys() == {"pick", "touch"}
    assert (bands.of("pick").count, bands.of("push").count) == (40, 124)
    assert bands.of("push") is bands.pooled
    assert bands.of("touch").shape is bands.pooled.shape, "nothing of its own to shape it"
    assert "0.15, marginally" in bands.pooled.guarantee


def shifted(rng: np.random.Generator, count: int) -> list[Scores]:
    """Successes of a task that was not calibrated on."""
    return [1.35 * scores for scores in successes(rng, count, 1.3)]


@pytest.mark.parametrize(("feedback", "tolerance"), [(1.0, 0.03), (0.2, 0.08)])
def test_a_growing_pool_restores_the_rate_that_a_fixed_band_loses(
    feedback: float, tolerance: float
) -> None:
    rng = np.random.default_rng(2)
    shape, prior = Shape.of(successes(rng, 40)), successes(rng, 100)
    fixed = scaled(shape, prior, ALPHA)
    stream = [(scores, True) for scores in shifted(rng, 300)]
    lost = np.mean([fixed.first_alarm(scores) is not None for scores, _ in stream])
    assert lost > 2.0 * ALPHA, "the positive control"
    excesses = [shape.largest_excess(scores) for scores in prior]
    verdicts = prequential(AdaptiveBand(shape, excesses, ALPHA), stream, feedback=feedback)
    rate = np.mean([verdict.first_alarm is not None for verdict in verdicts])
    assert len(verdicts) == 300, "warm-up included"
    assert abs(rate - ALPHA) < tolerance


def test_no_episode_is_judged_by_what_it_taught() -> None:
    rng = np.random.default_rng(3)
    shape, prior = Shape.of(successes(rng, 40)), np.arange(100.0)
    stream = [(scores, True) for scores in shifted(rng, 30)]
    before = prequential(AdaptiveBand(shape, prior, ALPHA), stream)
    changed = [*stream[:12], (stream[12][0] * 50.0, True), *stream[13:]]
    after = prequential(AdaptiveBand(shape, prior, ALPHA), changed)
    assert [v.quantile for v in before[:13]] == [v.quantile for v in after[:13]]
    assert before[13].quantile != after[13].quantile


def test_failures_and_silence_teach_nothing() -> None:
    rng = np.random.default_rng(3)
    shape, prior = Shape.of(successes(rng, 40)), np.arange(100.0)
    scores = shifted(rng, 20)
    for stream, feedback in (([(s, False) for s in scores], 1.0), ([(s, True) for s in scores], 0)):
        band = AdaptiveBand(shape, prior, ALPHA)
        quantile = band.band.quantile
        verdicts = prequential(band, stream, feedback=feedback)
        assert {verdict.quantile for verdict in verdicts} == {quantile}
        assert band.level == ALPHA
    with pytest.raises(FailureDetectionError, match="feedback is 2"):
        prequential(band, [], feedback=2.0)
    with pytest.raises(FailureDetectionError, match="rate 1"):
        AdaptiveBand(shape, prior, ALPHA, rate=1.0)
    with pytest.raises(FailureDetectionError, match="n = 3"):
        AdaptiveBand(shape, prior[:3], ALPHA)


def test_a_calibration_comes_back_as_it_was_and_knows_what_it_is_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bands = fit_task_bands({"pick": successes(rng, 20)}, {"pick": successes(rng, 45)}, ALPHA)
    written = Calibration(BINDING, "d1", bands, (0.1, 0.2))
    written.save(tmp_path / "calibration.json")
    found = Calibration.load(tmp_path / "calibration.json")
    assert (found.binding, found.detector_id) == (BINDING, "d1")
    assert found.drift_maxima == (0.1, 0.2)
    for scores in successes(rng, 50):
        for task in ("pick", "push"):
            before, after = bands.of(task), found.bands.of(task)
            assert before.first_alarm(scores) == after.first_alarm(scores)
            assert before.quantile == after.quantile
    assert found.mismatches(BINDING, "d1") == []
    swapped = replace(BINDING, policy_id="q", latency_s=0.3)
    assert found.mismatches(swapped, "d2") == [
        "policy_id is q, calibrated was p",
        "latency_s is 0.3, calibrated was 0.1",
        "detector_id is d2, calibrated was d1",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"policy_id": "p"', '"policy_id": "q"', "says that it is"),
        ('"detector_id"', '"detector"', "cannot be read.*detector_id"),
        ('"format": 1', '"format": 2', "has format 2, not 1"),
        ('"quantile": ', '"quantile": NaN, "was": ', "finite quantile"),
        ('"centre": [', '"centre": [NaN, ', "differ"),
        ("{", "", "cannot be read"),
    ],
)
def test_a_calibration_that_was_changed_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    rng = np.random.default_rng(0)
    bands = fit_task_bands({"pick": successes(rng, 20)}, {"pick": successes(rng, 20)}, ALPHA)
    path = tmp_path / "calibration.json"
    Calibration(BINDING, "d1", bands, (0.1, 0.2)).save(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(FailureDetectionError, match=message):
        Calibration.load(path)
