# SPDX-License-Identifier: Apache-2.0
"""How detectors do on tasks they have never seen: cross-validation over tasks.

In every fold some tasks are held out. Detectors are fitted, their hyper-parameters chosen, the best
of the others named and the bands shaped and scaled on the other tasks alone; then the held-out ones
are scored, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..calibration import Shape
from ..detectors import CONTROLS, DETECTORS, Detector, score_episode
from ..detectors.saving import make_detector
from ..episodes import Episode, FailureDetectionError, FloatArray
from ..measures.brier import Probability
from ..measures.ranking import macro_auc, snapshots_at
from ..splits import Shares, Split, split_episodes, task_folds
from .keeping import Keeper, Scored

OURS = "fused"
BEST_OTHER = "best_other"
# A running robot does not know what is perturbed, and runs one policy: no others to be beaten.
_PRIVILEGED = ("perturbation_id", "severity", "policy_id")
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
        test: Scores of the *test* split's successes, by their ids: of seen tasks, to compare with.
        probability: Of a failure, given a score; fitted on the *select* split.
    """

    settings: Settings
    seen_auc: float
    episodes: tuple[Episode, ...]
    scores: tuple[FloatArray, ...]
    select: tuple[FloatArray, ...]
    calibrate: tuple[FloatArray, ...]
    test: Mapping[str, FloatArray]
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
    episodes: Sequence[Episode],
    study: Study,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> list[Fold]:
    """Runs all folds of all repeats.

    Args:
        episodes: Of all tasks.
        study: What is compared.
        progress: Called with the name of every detector that is done in a fold.
        folder: Keeps scores and has those of before; None = nothing is kept.

    Raises:
        FailureDetectionError: If there are too few episodes of a kind, or too few tasks.
    """
    about = {"shares": asdict(study.shares), "seed": study.seed}
    keeper = None if folder is None else Keeper(folder, episodes, about)
    tasks = {episode.info.task for episode in episodes}
    held_out = task_folds(tasks, folds=study.folds, repeats=study.repeats, seed=study.seed)
    done = []
    for number, unseen in enumerate(held_out):
        split = split_episodes(episodes, unseen=unseen, shares=study.shares, seed=study.seed)
        judged = {}
        for name, choices in study.all_candidates.items():
            case = [list(unseen), [dict(settings) for settings in choices]]
            scored = keeper.find(name, case) if keeper else None
            if scored is None:
                scored = _score(name, choices, split, study.seed)
                if keeper is not None:
                    keeper.keep(name, case, scored)
            judged[name] = _judge(name, scored, split)
            if progress is not None:
                progress(name)
        done.append(Fold(number // study.folds, unseen, judged, _best_other(judged)))
    return done


def _score(name: str, choices: Sequence[Settings], split: Split, seed: int) -> Scored:
    """Fits a detector, chooses its settings and scores whoever is needed to judge it."""
    best: tuple[float, Settings, Detector, list[FloatArray]] | None = None
    select = _usable(name, split.select)
    for settings in choices:
        detector = make_detector(name, dict(settings))
        detector.fit(_usable(name, split.train), seed)
        scores = [score_episode(detector, episode) for episode in select]
        seen_auc = _seen_auc(select, scores, DETECTORS[name].needs_samples)
        if best is None or seen_auc > best[0]:
            best = seen_auc, settings, detector, scores
    assert best is not None
    seen_auc, chosen, fitted, scores = best
    others = [e for e in (*split.calibrate, *split.test) if e.info.success]
    found = {e.info.episode_id: s for e, s in zip(select, scores, strict=True)}
    for episode in _usable(name, [*others, *split.unseen]):
        found[episode.info.episode_id] = score_episode(fitted, episode)
    return Scored(chosen, seen_auc, found)


def _judge(name: str, scored: Scored, split: Split) -> Judged:
    def of(part: Sequence[Episode]) -> tuple[FloatArray, ...]:
        return tuple(scored.scores[episode.info.episode_id] for episode in part)

    def successes(part: Sequence[Episode]) -> tuple[FloatArray, ...]:
        return of([episode for episode in _usable(name, part) if episode.info.success])

    select, unseen = _usable(name, split.select), _usable(name, split.unseen)
    shaping = successes(select)
    return Judged(
        settings=scored.settings,
        seen_auc=scored.seen_auc,
        episodes=tuple(unseen),
        scores=of(unseen),
        select=shaping,
        calibrate=successes(split.calibrate),
        test={
            e.info.episode_id: scored.scores[e.info.episode_id]
            for e in _usable(name, split.test)
            if e.info.success
        },
        probability=Probability.fit(Shape.of(shaping), select, of(select)),
    )


def _usable(name: str, part: Sequence[Episode]) -> list[Episode]:
    """Those that a detector can score."""
    return [e for e in part if e.samples is not None or not DETECTORS[name].needs_samples]


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
