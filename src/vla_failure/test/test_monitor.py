# SPDX-License-Identifier: Apache-2.0
"""Decisions: each reason to stop trips, and stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from made_rollouts import BINDING, WIDTH, make_episode, write_rollouts

from vla_failure import FailureDetectionError
from vla_failure.binding import Binding
from vla_failure.calibration import Band, Calibration, Shape, TaskBands
from vla_failure.calibration.drift import DriftTest, make_drift_detector
from vla_failure.detectors import Detector
from vla_failure.episodes import Episode, Start, Step
from vla_failure.fitting import calibrate, fit
from vla_failure.loading import load_monitor
from vla_failure.monitor import Decision, Monitor, MonitorConfig, Status

RUNNING = replace(BINDING, feature_shape=(5, 16, WIDTH))
# μ_t = 2, m_t = 1, Q = 1: a score of 3 is at the band.
BAND = Band(Shape(np.full(4, 2.0), np.ones(4)), 1.0, 0.15, 40)
START = make_episode(1).info.start


@dataclass
class Given(Detector):
    """Scores what is written into the robot's state."""

    name: ClassVar[str] = "given"

    def fit(self, episodes: object, seed: int = 0) -> None:
        """Nothing is learned."""

    def start(self, start: Start) -> None:
        """Nothing is remembered."""

    def step(self, step: Step) -> float:
        return float(step.state[0])


def step(score: float, at: float) -> Step:
    seen = next(make_episode(1).steps())
    return replace(seen, time=at, state=np.array([score], np.float32))


def make_monitor(
    config: MonitorConfig | None = None,
    *,
    calibrated: bool = True,
    drift: DriftTest | None = None,
) -> Monitor:
    calibration = Calibration(RUNNING, "d1", TaskBands(BAND, {}), ())
    monitor = Monitor(Given(), "d1", RUNNING, calibration if calibrated else None, drift, config)
    monitor.start(START)
    return monitor


def run(monitor: Monitor, *scores: float, clock: Iterator[int] | None = None) -> list[Status]:
    ticks = clock or count()
    return [monitor.judge(step(score, 0.4 * next(ticks)), 0.1) for score in scores]


def decisions(found: list[Status]) -> list[str]:
    return [status.decision.name for status in found]


def test_ok_warn_stop_and_stay() -> None:
    found = run(make_monitor(), 1.0, 2.4, 2.6, 3.0, 3.001, 1.0)
    assert decisions(found) == ["OK", "OK", "WARN", "WARN", "STOP", "STOP"]
    assert [status.margin for status in found[:4]] == pytest.approx([2.0, 0.6, 0.4, 0.0], abs=1e-6)
    assert found[4].margin < 0.0
    assert (found[3].threshold, found[3].alpha, found[3].step) == (3.0, 0.15, 4)
    assert found[4].reason == found[5].reason == "the score is above the band for 1 inferences"
    assert found[0].calibration_id == RUNNING.calibration_id
    assert "<= 0.15" in found[0].guarantee
    assert all(status.latency >= 0.0 for status in found)


def test_persistence_asks_for_consecutive_alarms() -> None:
    monitor = make_monitor(MonitorConfig(persistence=2, warning=0.0))
    assert decisions(run(monitor, 9.0, 1.0, 9.0, 9.0)) == ["WARN", "OK", "WARN", "STOP"]


def test_only_reset_releases() -> None:
    monitor, clock = make_monitor(), count()
    assert decisions(run(monitor, 9.0, 0.0, clock=clock)) == ["STOP", "STOP"]
    monitor.start(START)
    assert decisions(run(monitor, 0.0, clock=clock)) == ["STOP"], "a new episode does not"
    monitor.reset()
    assert decisions(run(monitor, 0.0, clock=clock)) == ["OK"]


def test_going_back_is_allowed_so_many_times() -> None:
    monitor = make_monitor(MonitorConfig(reaction=Decision.BACKTRACK, retries=1))
    clock = count()
    assert decisions(run(monitor, 9.0, clock=clock)) == ["BACKTRACK"]
    monitor.went_back()
    assert decisions(run(monitor, 1.0, 9.0, clock=clock)) == ["OK", "ASK_HELP"]
    with pytest.raises(FailureDetectionError, match="nobody was told to go back"):
        monitor.went_back()
    monitor.reset()
    monitor.start(START)
    assert decisions(run(monitor, 9.0, clock=clock)) == ["BACKTRACK"], "per episode"
    asking = make_monitor(MonitorConfig(reaction=Decision.ASK_HELP))
    assert decisions(run(asking, 9.0)) == ["ASK_HELP"]


def spoiled(**changes: object) -> Step:
    return replace(step(1.0, 0.4), **changes)  # type: ignore[arg-type]


NAN_FEATURES = np.full((3, 3, WIDTH), np.nan, np.float32)
NAN_CHUNK = np.full((16, 10), np.nan, np.float32)


@pytest.mark.parametrize(
    ("judge", "reason"),
    [
        (lambda m: m.judge(None, 0.1), "no features came"),
        (lambda m: m.judge(step(1.0, 0.4), 0.7), "0.700 s old"),
        (lambda m: m.judge(step(1.0, 0.4), -0.01), "-0.010 s old"),
        (lambda m: m.judge(step(1.0, 0.4), float("nan")), "nan s old"),
        (lambda m: m.judge(step(1.0, 0.0), 0.1), "not after the one before"),
        (lambda m: m.judge(spoiled(time=float("nan")), 0.1), "not after the one before"),
        (lambda m: m.judge(spoiled(features=NAN_FEATURES), 0.1), "features is not finite"),
        (lambda m: m.judge(spoiled(chunk=NAN_CHUNK), 0.1), "chunk is not finite"),
        (lambda m: m.judge(step(float("nan"), 0.4), 0.1), "state is not finite"),
        (lambda m: m.judge(spoiled(features=NAN_FEATURES[..., :2] * 0 + 1), 0.1), "not finite"),
        (
            lambda m: m.judge(spoiled(features=np.ones((3, 3, 2), np.float32)), 0.1),
            "features are (3, 3, 2)",
        ),
    ],
)
def test_what_cannot_be_judged_is_not(judge: Callable[[Monitor], Status], reason: str) -> None:
    monitor = make_monitor()
    assert decisions(run(monitor, 1.0)) == ["OK"], "the positive control"
    found = judge(monitor)
    assert found.decision is Decision.ABSTAIN
    assert reason in found.reason
    assert found.step == 1
    after = monitor.judge(step(1.0, 2.0), 0.1)
    assert (after.decision, after.reason) == (Decision.ABSTAIN, found.reason), "it stays"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"policy_id": "other"}, "policy_id is other, calibrated was p"),
        ({"latency_s": 0.2}, "latency_s is 0.2, calibrated was 0.1"),
        ({"schedule": "rtc"}, "schedule is rtc"),
        ({"cameras": ("scene",)}, "cameras is"),
    ],
)
def test_a_hot_swap_voids_the_calibration(change: dict[str, object], reason: str) -> None:
    monitor, clock = make_monitor(), count()
    assert decisions(run(monitor, 1.0, clock=clock)) == ["OK"]
    monitor.rebind(replace(RUNNING, **change))  # type: ignore[arg-type]
    (found,) = run(monitor, 1.0, clock=clock)
    assert found.decision is Decision.ABSTAIN
    assert reason in found.reason
    monitor.reset()
    assert decisions(run(monitor, 1.0, clock=clock)) == ["ABSTAIN"], "still another policy"
    monitor.rebind(RUNNING)
    monitor.reset()
    assert decisions(run(monitor, 1.0, clock=clock)) == ["OK"]


def test_without_a_calibration_only_an_explicit_wish_goes_on() -> None:
    (found,) = run(make_monitor(calibrated=False), 1.0)
    assert (found.decision, found.reason) == (Decision.ABSTAIN, "there is no calibration")
    assert found.guarantee == "none: uncalibrated, nothing can alarm"
    wished = make_monitor(MonitorConfig(allow_uncalibrated=True), calibrated=False)
    found, later = run(wished, 1.0, 99.0)
    assert (found.decision, later.decision) == (Decision.OK, Decision.OK)
    assert "uncalibrated, as allowed" in later.reason
    assert later.calibration_id == ""
    assert np.isnan(later.threshold)
    (bad,) = run(wished, float("nan"), clock=count(5))
    assert bad.decision is Decision.ABSTAIN, "the rest still fails closed"


def test_nothing_is_judged_before_an_episode_begins() -> None:
    monitor = Monitor(Given(), "d1", RUNNING, None)
    assert monitor.judge(step(1.0, 0.0), 0.1).reason == "no episode was started"


def drift_test(calibration: int = 400) -> DriftTest:
    detector = make_drift_detector()
    train = [make_episode(seed, "failure" if seed % 2 else "success") for seed in range(40)]
    detector.fit(train)
    return DriftTest.calibrated(detector, [make_episode(1000 + s) for s in range(calibration)])


def strange(episode: Episode) -> Episode:
    return replace(episode, features=episode.features + np.float16(4.0))


def test_drift_p_values_are_uniform_and_strange_worlds_abstain() -> None:
    drift = drift_test()

    def last_p(episode: Episode) -> float:
        drift.start(episode.info.start)
        found = [drift.update(seen) for seen in episode.steps()]
        assert found == sorted(found, reverse=True)
        return found[-1]

    p = np.array([last_p(make_episode(5000 + seed)) for seed in range(300)])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p <= level) == pytest.approx(level, abs=0.08)
    assert last_p(strange(make_episode(1))) == drift.least == 1 / 401
    monitor = make_monitor(drift=drift)
    seen = next(strange(make_episode(1)).steps())
    found = monitor.judge(replace(seen, state=np.ones(1, np.float32)), 0.1)
    assert found.decision is Decision.ABSTAIN
    assert "unlike all of the calibration's" in found.reason
    assert found.drift_p == drift.least


def test_a_drift_test_that_could_never_fire_is_refused() -> None:
    drift = replace(drift_test(4), maxima=np.arange(50.0))
    with pytest.raises(FailureDetectionError, match=r"never falls to 0\.005; .* 0\.0196"):
        make_monitor(drift=drift)
    make_monitor(MonitorConfig(drift_level=0.0), drift=drift)
    with pytest.raises(FailureDetectionError, match="0 maxima"):
        replace(drift, maxima=np.empty(0))


def test_from_disk(tmp_path: Path) -> None:
    good, out = write_rollouts(tmp_path / "good", "p"), tmp_path / "detector"
    fit([good], out, "mahalanobis", {"accumulate": "mean"})
    seen = list(make_episode(1, shift=0.0).steps())
    config = MonitorConfig(drift_level=0.05)

    def judged(running: Binding) -> Status:
        monitor = load_monitor(out, running, config)
        monitor.start(START)
        return monitor.judge(seen[0], 0.1)

    assert judged(RUNNING).reason == "there is no calibration"
    calibrate([good], out, 0.15)
    found = judged(RUNNING)
    assert found.decision in (Decision.OK, Decision.WARN)
    assert 0.05 < found.drift_p <= 1.0
    assert np.isfinite([found.score, found.threshold, found.margin]).all()
    assert "sampler is rtc" in judged(replace(RUNNING, sampler="rtc")).reason
    # A detector that was fitted anew beside an old calibration.
    (out / "detector.json").write_text((out / "detector.json").read_text() + " ")
    assert "detector_id is" in judged(RUNNING).reason


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reaction": Decision.WARN}, "STOP, BACKTRACK, ASK_HELP"),
        ({"persistence": 0}, "persistence is 0; valid: 1 or more"),
        ({"max_age": 0.0}, r"max_age is 0\.0"),
        ({"drift_level": 1.0}, "0 to below 1"),
        ({"warning": float("nan")}, "warning is nan"),
    ],
)
def test_bad_configurations_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(FailureDetectionError, match=message):
        MonitorConfig(**settings)  # type: ignore[arg-type]
