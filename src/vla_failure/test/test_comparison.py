# SPDX-License-Identifier: Apache-2.0
"""With and without a detector, in lockstep: the shipped policy under one that counts inferences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_rollouts import make_episode

from vla_failure import FailureDetectionError
from vla_failure.binding import Binding
from vla_failure.calibration import Band, Calibration, Shape, TaskBands
from vla_failure.calibration.drift import DriftTest, make_drift_detector
from vla_failure.comparison import Watching, compare_with_detector
from vla_failure.detectors.saving import detector_id, make_detector, save_detector
from vla_policy import default_checkpoint, load_policy
from vla_policy.evaluation.evaluate import EvaluationConfig

ALARM = 3  # inferences, of which the last alarms
WIDTH = 320


def write_detector(folder: Path, alarm: int, **changes: object) -> Path:
    """A calibrated clock that alarms at an inference, for the shipped policy."""
    drift = make_drift_detector()
    episodes = [
        replace(
            make_episode(seed, "failure" if seed % 2 else "success"),
            features=np.random.default_rng(seed).normal(size=(10, 3, 3, WIDTH)).astype(np.float16),
        )
        for seed in range(12)
    ]
    drift.fit(episodes)
    save_detector(folder / "drift", drift)
    save_detector(folder, make_detector("clock", {}))
    binding = Binding.of(load_policy().spec)
    band = Band(Shape(np.zeros(1), np.ones(1)), alarm - 0.5, 0.15, 40)
    maxima = DriftTest.calibrated(drift, episodes).maxima
    Calibration(
        replace(binding, **changes),  # type: ignore[arg-type]
        detector_id(folder),
        TaskBands(band, {}),
        tuple(maxima.tolist()),
    ).save(folder / "calibration.json")
    return folder


def config(episodes: int = 1) -> EvaluationConfig:
    return EvaluationConfig(
        default_checkpoint(), "touch", episodes=episodes, purpose="evaluation", workers=1
    )


def test_three_ways_to_run_a_scene(tmp_path: Path) -> None:
    watching = Watching(write_detector(tmp_path, ALARM), retries=1, drift_level=0.0)
    seen = []
    found = compare_with_detector(config(), watching, seen.append)
    assert len(seen) == len(found["episodes"]) == 3
    figures, rows = found["figures"], {row["arm"]: row for row in found["table"]}
    assert list(rows) == ["unwatched", "watched", "random"]
    assert rows["unwatched"]["alarmed_rate"] == 0.0
    # It goes back once, then asks: two alarms in each episode.
    assert figures["retries_per_episode_watched"] == 1.0
    assert figures["asked_rate_watched"] == figures["alarmed_rate_watched"] == 1.0
    assert figures["success_rate_watched"] == figures["unannounced_failure_rate_watched"] == 0.0
    alone = figures["success_rate_unwatched"]
    assert figures["success_over_unwatched_difference"] == -alone
    assert ("false_alarm_rate" in figures) == (alone > 0.0)
    assert found["settings"]["random_alarm_chance_per_inference"] == pytest.approx(1.0 / ALARM)
    for episode in found["episodes"]:
        if episode["arm"] == "watched":
            assert (episode["judged"], episode["alarms"], episode["retries"]) == (6, 2, 1)
            assert "above the band" in episode["ended"]
            assert 0.01 < episode["retraced_m"] < 0.5
            assert episode["rejected"] == 0
    again = compare_with_detector(config(), watching)
    assert again["episodes"] == found["episodes"], "the same on every machine"


def test_a_detector_that_never_alarms_changes_nothing(tmp_path: Path) -> None:
    watching = Watching(write_detector(tmp_path, 10_000), drift_level=0.0)
    found = compare_with_detector(config(), watching)
    digests = {episode["arm"]: episode["digest"] for episode in found["episodes"]}
    assert digests["watched"] == digests["unwatched"] == digests["random"]
    assert found["figures"]["success_over_unwatched_difference"] == 0.0


def test_only_what_is_calibrated_for_this_policy_is_compared(tmp_path: Path) -> None:
    folder = write_detector(tmp_path, ALARM, latency_s=0.3)
    with pytest.raises(FailureDetectionError, match=r"latency_s is 0\.1, calibrated was 0\.3"):
        compare_with_detector(config(), Watching(folder, drift_level=0.0))
    (folder / "calibration.json").unlink()
    with pytest.raises(FailureDetectionError, match="holds no calibration"):
        compare_with_detector(config(), Watching(folder, drift_level=0.0))
