# SPDX-License-Identifier: Apache-2.0
"""How detectors do on tasks they have never seen: cross-validation over tasks.

In every fold some tasks are held out. Detectors are fitted, their hyper-parameters chosen, the best
of the others named and the bands shaped and scaled on the other tasks alone; then the held-out ones
are scored, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..calibration import Shape
from ..detectors import CONTROLS, DETECTORS, Detector, score_episode
from ..detectors.saving import make_detector
from ..episodes import Episode, FailureDetectionError, FloatArray
from ..measures.brier import Probability
from ..measures.ranking import macro_auc, snapshots_at
from ..splits import Shares, Split, split_episodes, task_folds

OURS = "fused"
BEST_OTHER = "best_other"
# A running robot does not know what is perturbed, and runs one policy: no others to be beaten.
_PRIVILEGED = ("perturbation_id", "policy_id")
# Share of the task's median time to success at which scores are compared.
HEADLINE = 0.5

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
        test: Scores of the *test* split's successes: of seen tasks, to compare with.
        probability: Of a failure, given a score; fitted on the *select* split.
    """

    settings: Settings
    seen_auc: float
    episodes: tuple[Episode, ...]
    scores: tuple[FloatArray, ...]
    select: tuple[FloatArray, ...]
    calibrate: tuple[FloatArray, ...]
    test: tuple[FloatArray, ...]
    probability: Probability


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


def _judge(name: str, choices: Sequence[Settings], split: Split, seed: int) -> Judged:
    best: tuple[float, Settings, Detector, list[FloatArray]] | None = None
    needs_samples = DETECTORS[name].needs_samples

    def usable(part: Sequence[Episode]) -> list[Episode]:
        return [e for e in part if e.samples is not None] if needs_samples else list(part)

    select = usable(split.select)
    for settings in choices:
        detector = make_detector(name, dict(settings))
        detector.fit(usable(split.train), seed)
        scores = [score_episode(detector, episode) for episode in select]
        seen_auc = _seen_auc(select, scores, needs_samples)
        if best is None or seen_auc > best[0]:
            best = seen_auc, settings, detector, scores
    assert best is not None
    seen_auc, chosen, fitted, scores = best
    shaping = tuple(s for e, s in zip(select, scores, strict=True) if e.info.success)

    def successes(part: Sequence[Episode]) -> tuple[FloatArray, ...]:
        return tuple(score_episode(fitted, e) for e in usable(part) if e.info.success)

    unseen = tuple(usable(split.unseen))
    return Judged(
        settings=chosen,
        seen_auc=seen_auc,
        episodes=unseen,
        scores=tuple(score_episode(fitted, episode) for episode in unseen),
        select=shaping,
        calibrate=successes(split.calibrate),
        test=successes(split.test),
        probability=Probability.fit(Shape.of(shaping), select, scores),
    )


def _seen_auc(
    select: Sequence[Episode], scores: Sequence[FloatArray], needs_samples: bool
) -> float:
    """By which settings are chosen.

    Few episodes have several samples: where these tell nothing apart all settings are alike.
    """
    snapshots = snapshots_at(select, scores, HEADLINE)
    if needs_samples and all(snapshot.auc() is None for snapshot in snapshots.values()):
        return 0.5
    return macro_auc(snapshots)


def _best_other(judged: Mapping[str, Judged]) -> str:
    """The best on seen tasks of those that a running robot could have instead of ours."""
    rivals = [
        name
        for name in judged
        if name not in (OURS, *_PRIVILEGED) and not DETECTORS[name].needs_samples
    ]
    return max(rivals, key=lambda name: judged[name].seen_auc)
