# SPDX-License-Identifier: Apache-2.0
"""How detectors do on tasks they have never seen: cross-validation over tasks, and its figures.

In every fold some tasks are held out. Detectors are fitted, their hyper-parameters chosen, the best
of the others named and the bands shaped and scaled on the other tasks alone; then the held-out ones
are scored, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .calibration import AdaptiveBand, Shape, fit_band, prequential
from .detectors import CONTROLS, DETECTORS, Detector, score_episode
from .detectors.saving import make_detector
from .episodes import Episode, FailureDetectionError, FloatArray
from .measures.alarms import Alarm, alarm_figures
from .measures.intervals import auc_interval, auc_margin_interval
from .measures.ranking import Snapshot, macro_auc, snapshots_at
from .splits import Shares, Split, split_episodes, task_folds

OURS = "fused"
BEST_OTHER = "best_other"
# A running robot does not know what is perturbed: no other detector to be beaten.
_PRIVILEGED = ("perturbation_id",)
# Shares of the task's median time to success at which scores are compared.
HEADLINE, EARLY, LATE = 0.5, 0.25, 0.75
FEEDBACK = {"": 1.0, "_feedback_20": 0.2}
# Figures that less feedback and the random control are compared by.
_COMPARED = (
    "false_alarm_rate",
    "false_alarm_rate_error",
    "detection_rate",
    "failures_flagged_in_time_rate",
)

Settings = Mapping[str, Any]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Study:
    """What is compared, and how.

    Attributes:
        candidates: Per detector the settings to choose among; controls are always there.
        folds: Disjoint sets of tasks that are held out in turn.
        repeats: Times that tasks are dealt to folds anew.
        shares: Of the seeds of seen tasks.
        alpha: Rate of false alarms per successful episode.
        seed: Of folds, splits, training and streams.
    """

    candidates: Mapping[str, Sequence[Settings]]
    folds: int = 4
    repeats: int = 1
    shares: Shares = field(default_factory=Shares)
    alpha: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if OURS not in self.candidates or len(self.candidates.keys() - CONTROLS.keys()) < 2:
            raise FailureDetectionError(
                f"a study needs {OURS!r} and another detector; got {sorted(self.candidates)}"
            )
        for name, choices in self.candidates.items():
            if not choices:
                raise FailureDetectionError(f"no settings to choose among for {name!r}")
            for settings in choices:
                make_detector(name, dict(settings))  # which checks them

    @property
    def all_candidates(self) -> dict[str, Sequence[Settings]]:
        """With the controls."""
        return {**{name: ({},) for name in CONTROLS}, **self.candidates}


@dataclass(frozen=True)
class Judged:
    """One detector in one fold.

    Attributes:
        settings: That were chosen on seen tasks.
        seen_auc: With them, on the *select* split.
        episodes: Of the held-out tasks; for detectors that need several samples those that have
            them.
        scores: (T_i,) of each.
        select: Scores of the *select* split's successes, which shape the band.
        calibrate: Scores of the *calibrate* split's successes, which scale it.
    """

    settings: Settings
    seen_auc: float
    episodes: tuple[Episode, ...]
    scores: tuple[FloatArray, ...]
    select: tuple[FloatArray, ...]
    calibrate: tuple[FloatArray, ...]


@dataclass(frozen=True)
class Fold:
    """One set of held-out tasks.

    Attributes:
        repeat: Number of the repeat.
        unseen: The tasks.
        judged: Per detector.
        best_other: The detector that did best on seen tasks, ours aside.
    """

    repeat: int
    unseen: tuple[str, ...]
    judged: Mapping[str, Judged]
    best_other: str

    def of(self, name: str) -> Judged:
        """What a detector did here; ``BEST_OTHER`` stands for the fold's own best."""
        return self.judged[self.best_other if name == BEST_OTHER else name]


def cross_validate(
    episodes: Sequence[Episode], study: Study, progress: Progress | None = None
) -> list[Fold]:
    """Runs all folds of all repeats.

    Args:
        episodes: Of all tasks.
        study: What is compared.
        progress: Called with the name of every detector that is done in a fold.

    Raises:
        FailureDetectionError: If there are too few episodes of a kind, or too few tasks.
    """
    tasks = {episode.info.task for episode in episodes}
    held_out = task_folds(tasks, folds=study.folds, repeats=study.repeats, seed=study.seed)
    done = []
    for number, unseen in enumerate(held_out):
        split = split_episodes(episodes, unseen=unseen, shares=study.shares, seed=study.seed)
        judged = {}
        for name, choices in study.all_candidates.items():
            judged[name] = _judge(name, choices, split, study.seed)
            if progress is not None:
                progress(name)
        done.append(Fold(number // study.folds, unseen, judged, _best_other(judged)))
    return done


def unseen_figures(folds: Sequence[Fold], study: Study) -> dict[str, float]:
    """Figures on tasks that were held out; ``docs/failure.md`` says what each means."""
    repeats = [[f for f in folds if f.repeat == r] for r in range(study.repeats)]
    names = [*study.all_candidates, BEST_OTHER]
    figures: dict[str, float] = {}
    runs = {name: [_snapshots(part, name, HEADLINE) for part in repeats] for name in names}
    for name in names:
        suffix = "" if name == OURS else f"_{name}"
        figures[f"unseen_auc{suffix}"] = auc_interval(runs[name]).value
        figures[f"unseen_auc_within_perturbation{suffix}"] = float(
            np.mean([macro_auc(run, within_perturbations=True) for run in runs[name]])
        )
        for moment, share in (("early", EARLY), ("late", LATE)):
            found = [macro_auc(_snapshots(part, name, share)) for part in repeats]
            figures[f"unseen_auc_{moment}{suffix}"] = float(np.mean(found))
    ours = auc_interval(runs[OURS])
    margin = auc_margin_interval(runs[OURS], runs[BEST_OTHER])
    for name, interval in (("unseen_auc", ours), ("unseen_auc_margin_over_best_other", margin)):
        figures[name] = interval.value
        figures[f"{name}_low"], figures[f"{name}_high"] = interval.low, interval.high
    for kind in ("succeeded_before", "failed_before", "timeouts"):
        count = sum(getattr(snapshot, kind) for snapshot in runs[OURS][0].values())
        figures[f"unseen_left_out_{kind}_count"] = float(count)
    return {**figures, **_alarm_figures(repeats, study)}


def _judge(name: str, choices: Sequence[Settings], split: Split, seed: int) -> Judged:
    best: tuple[float, Settings, Detector] | None = None
    needs_samples = DETECTORS[name].needs_samples

    def usable(part: Sequence[Episode]) -> list[Episode]:
        return [e for e in part if e.samples is not None] if needs_samples else list(part)

    select = usable(split.select)
    for settings in choices:
        detector = make_detector(name, dict(settings))
        detector.fit(usable(split.train), seed)
        scores = [score_episode(detector, episode) for episode in select]
        seen_auc = macro_auc(snapshots_at(select, scores, HEADLINE))
        if best is None or seen_auc > best[0]:
            best = seen_auc, settings, detector
    assert best is not None
    seen_auc, chosen, fitted = best

    def successes(part: Sequence[Episode]) -> tuple[FloatArray, ...]:
        return tuple(score_episode(fitted, e) for e in usable(part) if e.info.success)

    unseen = tuple(usable(split.unseen))
    return Judged(
        settings=chosen,
        seen_auc=seen_auc,
        episodes=unseen,
        scores=tuple(score_episode(fitted, episode) for episode in unseen),
        select=successes(split.select),
        calibrate=successes(split.calibrate),
    )


def _best_other(judged: Mapping[str, Judged]) -> str:
    """The best on seen tasks of those that a running robot could have instead of ours."""
    rivals = [
        name
        for name in judged
        if name not in (OURS, *_PRIVILEGED) and not DETECTORS[name].needs_samples
    ]
    return max(rivals, key=lambda name: judged[name].seen_auc)


def _snapshots(folds: Sequence[Fold], name: str, share: float) -> dict[str, Snapshot]:
    """Of one repeat, in which every task was held out once."""
    found: dict[str, Snapshot] = {}
    for fold in folds:
        judged = fold.of(name)
        found |= snapshots_at(judged.episodes, judged.scores, share)
    return found


def _alarm_figures(repeats: Sequence[Sequence[Fold]], study: Study) -> dict[str, float]:
    """Alarms of ours and of the random control, mean over repeats."""
    rows = []
    for part in repeats:
        row: dict[str, float] = {}
        for name in (OURS, "random"):
            suffix = "" if name == OURS else f"_{name}"
            fixed = alarm_figures([a for f in part for a in _fixed_alarms(f.of(name), study)])
            row[f"unseen_false_alarm_rate_fixed{suffix}"] = fixed["false_alarm_rate"]
            row[f"unseen_detection_rate_fixed{suffix}"] = fixed["detection_rate"]
            for level, feedback in FEEDBACK.items():
                found = alarm_figures(
                    [a for f in part for a in _adaptive_alarms(f.of(name), study, feedback)]
                )
                found["false_alarm_rate_error"] = abs(found["false_alarm_rate"] - study.alpha)
                for figure in found if level + suffix == "" else _COMPARED:
                    prefix = "" if figure.startswith("failures_flagged") else "unseen_"
                    row[f"{prefix}{figure}{level}{suffix}"] = found[figure]
        rows.append(row)
    common = set.intersection(*(set(row) for row in rows))
    return {k: float(np.mean([row[k] for row in rows])) for k in rows[0] if k in common}


def _fixed_alarms(judged: Judged, study: Study) -> list[Alarm]:
    """With a band that was calibrated on seen tasks and stays as it is."""
    band = fit_band(judged.select, judged.calibrate, study.alpha)
    return [
        Alarm(episode, band.first_alarm(scores))
        for episode, scores in zip(judged.episodes, judged.scores, strict=True)
    ]


def _adaptive_alarms(judged: Judged, study: Study, feedback: float) -> list[Alarm]:
    """With a band per held-out task that learns as its episodes come, in random order."""
    shape = Shape.of(judged.select)
    prior = [shape.largest_excess(scores) for scores in judged.calibrate]
    alarms = []
    for task in sorted({episode.info.task for episode in judged.episodes}):
        own = [i for i, episode in enumerate(judged.episodes) if episode.info.task == task]
        order = np.random.default_rng([study.seed, *task.encode()]).permutation(own).tolist()
        verdicts = prequential(
            AdaptiveBand(shape, prior, study.alpha),
            [(judged.scores[i], judged.episodes[i].info.success) for i in order],
            feedback=feedback,
            seed=study.seed,
        )
        alarms += [
            Alarm(judged.episodes[i], verdict.first_alarm)
            for i, verdict in zip(order, verdicts, strict=True)
        ]
    return alarms
