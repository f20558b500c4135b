# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_rollouts import binding, write_rollouts

from vla_failure import FailureDetectionError
from vla_failure.calibration import Calibration
from vla_failure.detectors.saving import detector_id, load_detector
from vla_failure.fitting import calibrate, fit

SETTINGS = {"accumulate": "mean"}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_rollouts(tmp_path / "good", "good")


def test_from_rollouts_to_a_calibrated_detector(good: Path, tmp_path: Path) -> None:
    weak, out = write_rollouts(tmp_path / "weak", "weak"), tmp_path / "detector"
    fitted = fit([good, weak], out, "mahalanobis", SETTINGS)
    assert 0.2 < fitted["figures"]["select_auc"] < 0.8, "nothing shows before the onset"
    assert fitted["settings"]["policies"] == ["good", "weak"]
    result = calibrate([good], out, 0.15)
    figures, settings = result["figures"], result["settings"]
    calibration = Calibration.load(out / "calibration.json")
    assert settings["policy_id"] == calibration.binding.policy_id == "good"
    assert settings["detector_id"] == calibration.detector_id == detector_id(out)
    assert settings["calibration_id"] == binding("good").calibration_id
    assert figures["calibration_successes_count"] == calibration.bands.pooled.count
    assert figures["false_alarm_rate_low"] <= 0.15
    assert figures["detection_rate"] > 0.8
    assert load_detector(out).name == "mahalanobis"
    assert "<= 0.15" in settings["guarantee"]
    # The band is not that of the episodes that the detector was fitted on.
    counted = sum(figures[f"{kind}_count"] for kind in ("successes", "failures"))
    assert counted + figures["calibration_successes_count"] < 240


def test_held_out_tasks_stay_out(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "detector"
    fit([good], out, "mahalanobis", SETTINGS, unseen=["push"])
    whole = calibrate([good], out, 0.2)["figures"]["calibration_successes_count"]
    fit([good], out, "mahalanobis", SETTINGS)
    assert calibrate([good], out, 0.2)["figures"]["calibration_successes_count"] > 1.5 * whole


def test_more_rollouts_of_the_policy_are_calibrated_on_together(good: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "detector", write_rollouts(tmp_path / "more", "good", first=120)
    fit([good, more], out, "mahalanobis", SETTINGS)
    alone = calibrate([good], out, 0.15)["figures"]["calibration_successes_count"]
    both = calibrate([good, more], out, 0.15)["figures"]["calibration_successes_count"]
    assert both > 1.5 * alone
    other = write_rollouts(tmp_path / "weak", "weak", first=240)
    with pytest.raises(
        FailureDetectionError, match=r"weak is not of what made .*policy_id is weak"
    ):
        calibrate([good, other], out, 0.15)


def test_a_new_fit_voids_the_calibration(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "detector"
    fit([good], out, "mahalanobis", SETTINGS)
    calibrate([good], out, 0.15)
    fit([good], out, "jerk")
    with pytest.raises(FailureDetectionError, match="cannot be read"):
        Calibration.load(out / "calibration.json")


def test_what_is_missing_is_named(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "detector"
    with pytest.raises(FailureDetectionError, match="no rollouts there"):
        fit([tmp_path / "nowhere"], out, "jerk")
    with pytest.raises(FailureDetectionError, match=r"no episodes of \['stack'\]"):
        fit([good], out, "jerk", unseen=["stack"])
    with pytest.raises(FailureDetectionError, match="0 seeds are too few"):
        fit([good], out, "stac")
    fit([good], out, "jerk")
    with pytest.raises(FailureDetectionError, match=r"alpha 0\.001 is below"):
        calibrate([good], out, 0.001)
    training = json.loads((out / "training.json").read_text())
    (out / "training.json").write_text(json.dumps({"seed": training["seed"]}))
    with pytest.raises(FailureDetectionError, match="lacks shares, unseen"):
        calibrate([good], out, 0.15)
    (out / "training.json").unlink()
    with pytest.raises(FailureDetectionError, match="what the detector was fitted on is unknown"):
        calibrate([good], out, 0.15)
