# SPDX-License-Identifier: Apache-2.0
"""From rollouts on disk to a fitted, calibrated detector on disk.

Fitting and calibrating read the rollouts each for itself; what keeps them apart is that a scene's
part in the split follows from its seed and from settings that are kept with the detector.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .binding import Binding
from .calibration import Calibration, fit_task_bands
from .calibration.drift import DriftTest, make_drift_detector
from .detectors import Detector, score_episode
from .detectors.saving import detector_id, load_detector, make_detector, save_detector
from .episodes import Episode, FailureDetectionError, FloatArray
from .loading import CALIBRATION, DRIFT
from .measures.alarms import Alarm, alarm_figures
from .measures.ranking import macro_auc, snapshots_at
from .splits import Shares, Split, split_episodes
from .store import read_manifest, read_rollouts

TRAINING = "training.json"
_SHARE = 0.5  # of the median time to success, at which the AUC is taken


def fit(
    rollouts: Sequence[Path],
    folder: Path,
    name: str,
    settings: dict[str, Any] | None = None,
    *,
    unseen: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Fits a detector on the *train* split of some rollouts and writes it.

    Args:
        rollouts: Folders of ``vla rollouts``; of several policies, if so wished.
        folder: Receives the detector.
        name: Of the detector.
        settings: Of the detector.
        unseen: Tasks that are held out.
        seed: Of split and training.

    Returns:
        Figures on the *select* split, and settings.

    Raises:
        FailureDetectionError: Naming what is wrong or too few.
    """
    detector = make_detector(name, settings)
    training = {
        "policies": [read_manifest(path)["binding"]["policy_id"] for path in rollouts],
        "shares": asdict(Shares()),
        "seed": seed,
        "unseen": sorted(unseen),
    }
    split = _split(_usable(detector, read_rollouts(*rollouts)), training)
    detector.fit(split.train, seed)
    scores = [score_episode(detector, episode) for episode in split.select]
    snapshots = snapshots_at(split.select, scores, _SHARE)
    figures: dict[str, float] = {"train_episodes_count": len(split.train)}
    if any(snapshot.auc() is not None for snapshot in snapshots.values()):
        figures["select_auc"] = macro_auc(snapshots)
    drift = make_drift_detector()
    drift.fit(split.train, seed)
    save_detector(folder / DRIFT, drift)
    identity = save_detector(folder, detector)
    (folder / TRAINING).write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
    (folder / CALIBRATION).unlink(missing_ok=True)  # of what was there before
    return {
        "figures": figures,
        "settings": {"detector": name, **asdict(detector), "detector_id": identity, **training},
    }


def calibrate(rollouts: Sequence[Path], folder: Path, alpha: float) -> dict[str, Any]:
    """Calibrates a detector for the policy of some rollouts, and writes that beside it.

    Args:
        rollouts: Folders of ``vla rollouts`` of the policy that will run.
        folder: Of the detector.
        alpha: Rate of false alarms per successful episode.

    Returns:
        Figures on the *test* split, and settings.

    Raises:
        FailureDetectionError: Naming what is wrong or too few.
    """
    detector = load_detector(folder)
    binding = _common_binding(rollouts)
    split = _split(_usable(detector, read_rollouts(*rollouts)), _read_training(folder))
    bands = fit_task_bands(
        _success_scores(detector, split.select),
        _success_scores(detector, split.calibrate),
        alpha,
    )
    drift = DriftTest.calibrated(
        load_detector(folder / DRIFT), [e for e in split.calibrate if e.info.success]
    )
    maxima = tuple(drift.maxima.tolist())
    calibration = Calibration(binding, detector_id(folder), bands, maxima)
    calibration.save(folder / CALIBRATION)
    alarms = [
        Alarm(e, bands.of(e.info.task).first_alarm(score_episode(detector, e))) for e in split.test
    ]
    return {
        "figures": {**alarm_figures(alarms), "calibration_successes_count": bands.pooled.count},
        "settings": {
            "alpha": alpha,
            "calibration_id": calibration.calibration_id,
            "detector_id": calibration.detector_id,
            "policy_id": binding.policy_id,
            "tasks_with_own_band": sorted(bands.by_task),
            "guarantee": bands.pooled.guarantee,
        },
    }


def _common_binding(rollouts: Sequence[Path]) -> Binding:
    first, *others = (Binding.from_dict(read_manifest(path)["binding"]) for path in rollouts)
    for path, other in zip(rollouts[1:], others, strict=True):
        wrong = first.mismatches(other)
        if wrong:
            raise FailureDetectionError(
                f"{path} is not of what made {rollouts[0]}: {'; '.join(wrong)}"
            )
    return first


def _split(episodes: Sequence[Episode], training: dict[str, Any]) -> Split:
    return split_episodes(
        episodes,
        unseen=training["unseen"],
        shares=Shares(**training["shares"]),
        seed=training["seed"],
    )


def _read_training(folder: Path) -> dict[str, Any]:
    try:
        training: dict[str, Any] = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise FailureDetectionError(
            f"{folder / TRAINING} cannot be read, so what the detector was fitted on is unknown: "
            f"{error}"
        ) from error
    missing = sorted({"shares", "seed", "unseen"} - training.keys())
    if missing:
        raise FailureDetectionError(f"{folder / TRAINING} lacks {', '.join(missing)}")
    return training


def _usable(detector: Detector, episodes: Sequence[Episode]) -> list[Episode]:
    return [e for e in episodes if e.samples is not None or not detector.needs_samples]


def _success_scores(detector: Detector, episodes: Sequence[Episode]) -> dict[str, list[FloatArray]]:
    found: dict[str, list[FloatArray]] = defaultdict(list)
    for episode in episodes:
        if episode.info.success:
            found[episode.info.task].append(score_episode(detector, episode))
    return found
