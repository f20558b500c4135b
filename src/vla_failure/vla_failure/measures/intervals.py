# SPDX-License-Identifier: Apache-2.0
"""Intervals: exact ones of rates, and bootstraps over tasks and then their episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from ..episodes import FailureDetectionError, FloatArray
from .ranking import BoolArray, Snapshot

RESAMPLES = 2000


def clopper_pearson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion (Clopper, Pearson, 1934).

    Raises:
        FailureDetectionError: If the counts do not fit together.
    """
    if trials < 1 or not 0 <= hits <= trials:
        raise FailureDetectionError(f"{hits} of {trials}; valid: 0 <= k <= n, n >= 1")
    tail = 0.5 * (1.0 - confidence)
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1.0 - tail, hits + 1, trials - hits))
    return low, high


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % bounds.

    Attributes:
        value: As observed.
        low: 2.5 % quantile of the resamples.
        high: 97.5 % quantile.
    """

    value: float
    low: float
    high: float


# Repeats of a study: each has every task once, with other scores of the same episodes.
Runs = Sequence[Mapping[str, Snapshot]]


def auc_interval(runs: Runs, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Macro-averaged AUC with a hierarchical bootstrap; see ``auc_margin_interval``."""
    tasks = _wins(runs)
    return _interval(_macro(tasks, _draws(tasks, resamples, seed)))


def auc_margin_interval(
    ours: Runs,
    other: Runs,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Difference of two macro-averaged AUCs on the same episodes, paired.

    Tasks are drawn with replacement, then the episodes of each, with the scores that both detectors
    gave them: what makes a task or an episode hard weighs on both alike (percentile method; Efron,
    Tibshirani, 1993). Repeats are no further episodes: who wins is averaged over them.

    Raises:
        FailureDetectionError: If the episodes are not the same.
    """
    mine, others = _wins(ours), _wins(other)
    if mine.keys() != others.keys() or any(
        not np.array_equal(mine[task].failed, others[task].failed) for task in mine
    ):
        raise FailureDetectionError("a paired comparison needs the same episodes on both sides")
    draws = _draws(mine, resamples, seed)
    return _interval(_macro(mine, draws) - _macro(others, draws))


def rate_margin_interval(
    ours: Sequence[Mapping[str, FloatArray]],
    other: Sequence[Mapping[str, FloatArray]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Difference of two rates on the same episodes, paired, drawn as ``auc_margin_interval`` does.

    Args:
        ours: Of every repeat, per task (n,) hits of its episodes, 0 or 1.
        other: Likewise, in the same order.
        resamples: Draws.
        seed: Of them.

    Raises:
        FailureDetectionError: If the episodes are not the same.
    """
    shapes = [{task: len(hits) for task, hits in run.items()} for run in (*ours, *other)]
    if any(shape != shapes[0] for shape in shapes) or not shapes[0]:
        raise FailureDetectionError("a paired comparison needs the same episodes on both sides")
    gains = [
        np.mean([run[task] for run in ours], axis=0) - np.mean([run[task] for run in other], axis=0)
        for task in sorted(shapes[0])
    ]
    rng = np.random.default_rng(seed)
    values = [float(np.concatenate(gains).mean())]
    for _ in range(resamples):
        drawn = [gains[i] for i in rng.integers(len(gains), size=len(gains))]
        values.append(
            float(np.concatenate([g[rng.integers(len(g), size=len(g))] for g in drawn]).mean())
        )
    return _interval(np.array(values))


@dataclass(frozen=True)
class _Wins:
    """Of one task.

    Attributes:
        wins: Failures by successes: how often the failure scored higher; ties count half.
        failed: (n,) who failed.
    """

    wins: FloatArray
    failed: BoolArray


@dataclass(frozen=True)
class _Draws:
    """How often things were drawn; the first row is what was observed.

    Attributes:
        tasks: (R, tasks).
        episodes: Per task (R, n).
    """

    tasks: FloatArray
    episodes: list[FloatArray]


def _draws(tasks: Mapping[str, _Wins], resamples: int, seed: int) -> _Draws:
    rng = np.random.default_rng(seed)

    def counts(n: int) -> FloatArray:
        drawn = rng.multinomial(n, np.full(n, 1.0 / n), size=resamples)
        return np.concatenate([np.ones((1, n)), drawn])

    return _Draws(counts(len(tasks)), [counts(len(task.failed)) for task in tasks.values()])


def _wins(runs: Runs) -> dict[str, _Wins]:
    """Of every task with open episodes of both kinds; in the order of their names."""
    found = {}
    for task in sorted(runs[0]):
        every = [run[task] for run in runs]
        failed = every[0].failed
        if any(not np.array_equal(s.failed, failed) for s in every):
            raise FailureDetectionError(f"the repeats have other episodes of {task!r}")
        if every[0].auc() is not None:
            won = [0.5 * (1.0 + np.sign(_differences(snapshot))) for snapshot in every]
            found[task] = _Wins(np.mean(won, axis=0), failed)
    if not found:
        raise FailureDetectionError("no task has open episodes of both kinds")
    return found


def _differences(snapshot: Snapshot) -> FloatArray:
    """Scores of failures less those of successes, failures by successes."""
    failed, scores = snapshot.failed, snapshot.scores
    return np.asarray(np.subtract.outer(scores[failed], scores[~failed]))


def _macro(tasks: Mapping[str, _Wins], draws: _Draws) -> FloatArray:
    """Macro-averaged AUC (R,) of every draw."""
    values = np.full((len(draws.tasks), len(tasks)), np.nan)
    for column, (task, counts) in enumerate(zip(tasks.values(), draws.episodes, strict=True)):
        bad, good = counts[:, task.failed], counts[:, ~task.failed]
        pairs = bad.sum(axis=1) * good.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            values[:, column] = ((bad @ task.wins) * good).sum(axis=1) / pairs
    # A task of which only one kind was drawn says nothing in that draw.
    weights = np.where(np.isnan(values), 0.0, draws.tasks)
    with np.errstate(invalid="ignore", divide="ignore"):
        macro: FloatArray = (weights * np.nan_to_num(values)).sum(axis=1) / weights.sum(axis=1)
    return macro


def _interval(values: FloatArray) -> Interval:
    low, high = np.nanquantile(values[1:], (0.025, 0.975))
    return Interval(float(values[0]), float(low), float(high))
