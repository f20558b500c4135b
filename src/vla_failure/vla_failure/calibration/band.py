# SPDX-License-Identifier: Apache-2.0
"""A one-sided functional conformal band over the scores of an episode.

After Diquigiovanni, Fontana, Vantini (2022, "Conformal prediction bands for multivariate functional
data") and SAFE (Gu et al., 2025), with three differences: the band's shape comes from episodes of
their own, so that every calibration success counts for the quantile; the quantile is the exact
order statistic, not an interpolated one, which would under-cover; and an alarm is a score *above*
the band, because with ties "at or above" alarms too often.

What it promises: P(any alarm in the episode | success) <= α, on average over calibrations and
episodes, if the successes of calibration and operation are exchangeable. It promises nothing for
tasks, policies, schedules or cameras that were not calibrated on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..episodes import FailureDetectionError, FloatArray

# m_t is at least this share of the spread of all scores that shape the band: fixed here, before
# any score is seen.
EPSILON = 0.05
# Where fewer successes than this are still under way, the band goes on as it was.
_FEWEST = 5
# A band for one task needs so many calibration successes of it.
TASK_MINIMUM = 40


@dataclass(frozen=True)
class Shape:
    """Centre and width of a band before it is scaled.

    Attributes:
        centre: (T,) μ_t, mean score of successes at step t.
        modulation: (T,) m_t, their standard deviation, or the least width.
    """

    centre: FloatArray
    modulation: FloatArray

    def __post_init__(self) -> None:
        if self.centre.shape != self.modulation.shape or self.centre.ndim != 1:
            raise FailureDetectionError(
                f"centre {self.centre.shape} and modulation {self.modulation.shape} differ"
            )
        if not (
            len(self.centre)
            and np.all(np.isfinite(self.centre))
            and np.all(np.isfinite(self.modulation))
            and np.all(self.modulation > 0.0)
        ):
            raise FailureDetectionError("a band needs finite centres and widths above zero")

    @staticmethod
    def of(successes: Sequence[FloatArray], epsilon: float = EPSILON) -> Shape:
        """The shape of the scores of successful episodes.

        Args:
            successes: Scores (T_i,) of the *select* split's successes.
            epsilon: Least m_t, share of the standard deviation of all these scores.

        Raises:
            FailureDetectionError: If there are too few of them.
        """
        if len(successes) < _FEWEST:
            raise FailureDetectionError(
                f"{len(successes)} successes shape a band; needed are {_FEWEST} or more"
            )
        every = np.concatenate(successes)
        _require_finite(every)
        least = epsilon * max(float(every.std()), 1e-9)
        centre, modulation = [], []
        for step in range(max(len(scores) for scores in successes)):
            there = [scores[step] for scores in successes if len(scores) > step]
            if len(there) < _FEWEST:
                break
            centre.append(float(np.mean(there)))
            modulation.append(max(float(np.std(there, ddof=1)), least))
        return Shape(np.array(centre), np.array(modulation))

    def excesses(self, scores: FloatArray, first: int = 0) -> FloatArray:
        """(s_t − μ_t) / m_t of scores (T,) from step ``first`` on; the last centre and width hold.

        Raises:
            FailureDetectionError: If a score is not finite or there is none.
        """
        _require_finite(scores)
        steps = np.minimum(np.arange(first, first + len(scores)), len(self.centre) - 1)
        return np.asarray((scores - self.centre[steps]) / self.modulation[steps])

    def largest_excess(self, scores: FloatArray) -> float:
        """R, the largest excess of an episode (T,); raises as ``excesses``."""
        return float(self.excesses(scores).max())


@dataclass(frozen=True)
class Band:
    """δ_t = μ_t + Q m_t.

    Attributes:
        shape: μ_t and m_t.
        quantile: Q.
        alpha: Promised rate of false alarms per successful episode.
        count: Calibration successes behind Q.
    """

    shape: Shape
    quantile: float
    alpha: float
    count: int

    def __post_init__(self) -> None:
        if not math.isfinite(self.quantile):
            raise FailureDetectionError(f"a band needs a finite quantile, not {self.quantile}")

    def threshold(self, step: int) -> float:
        """δ_t at a step, counted from 0."""
        index = min(step, len(self.shape.centre) - 1)
        return float(self.shape.centre[index] + self.quantile * self.shape.modulation[index])

    def alarms(self, step: int, score: float) -> bool:
        """Whether s_t > δ_t.

        Compared as excesses, as Q was found: rounding of δ_t must not break a tie.

        Raises:
            FailureDetectionError: If the score is not finite: it is no reason to go on.
        """
        return bool(self.shape.excesses(np.array([score]), step)[0] > self.quantile)

    def first_alarm(self, scores: FloatArray) -> int | None:
        """The first step (from 0) of an episode at which it alarms; None for none."""
        above = np.flatnonzero(self.shape.excesses(scores) > self.quantile)
        return int(above[0]) if len(above) else None

    @property
    def guarantee(self) -> str:
        """What the band promises, in words."""
        return (
            f"P(any alarm in an episode | success) <= {self.alpha:g}, marginally, for episodes "
            f"exchangeable with the {self.count} successes it was calibrated on"
        )


@dataclass(frozen=True)
class TaskBands:
    """A band per task where there is enough to calibrate one, else the pooled one.

    Attributes:
        pooled: Of all tasks together.
        by_task: Of tasks with ``TASK_MINIMUM`` or more calibration successes.
    """

    pooled: Band
    by_task: Mapping[str, Band]

    def of(self, task: str) -> Band:
        """The band in force for a task."""
        return self.by_task.get(task, self.pooled)


def order_statistic(values: Sequence[float] | FloatArray, alpha: float) -> float:
    """The ⌈(n + 1)(1 − α)⌉-th smallest of n values.

    For n values exchangeable with one more, that one is above it with probability α at most (Vovk,
    Gammerman, Shafer, 2005).

    Raises:
        FailureDetectionError: If α is so small that no finite value will do, α < 1 / (n + 1).
    """
    if not 0.0 < alpha < 1.0:
        raise FailureDetectionError(f"alpha is {alpha}; valid: between 0 and 1")
    n = len(values)
    # A hair below, so that (n + 1)(1 − α) that is whole does not become the next by rounding.
    rank = math.ceil((n + 1) * (1.0 - alpha) - 1e-9)
    if rank > n:
        raise FailureDetectionError(
            f"alpha {alpha:g} is below 1 / (n + 1) of n = {n} calibration successes; "
            f"needed are {math.ceil(1.0 / alpha - 1e-9) - 1}, or an alpha of "
            f"{1.0 / (n + 1):.4f} or more"
        )
    return float(np.sort(np.asarray(values, dtype=float))[rank - 1])


def fit_band(
    select: Sequence[FloatArray],
    calibrate: Sequence[FloatArray],
    alpha: float,
    epsilon: float = EPSILON,
) -> Band:
    """A band from scores of successful episodes.

    Args:
        select: That shape it; of other episodes than ``calibrate``.
        calibrate: That scale it.
        alpha: Rate of false alarms per successful episode.
        epsilon: See ``Shape.of``.

    Raises:
        FailureDetectionError: If there are too few of either.
    """
    return scaled(Shape.of(select, epsilon), calibrate, alpha)


def scaled(shape: Shape, calibrate: Sequence[FloatArray], alpha: float) -> Band:
    """A band of a given shape."""
    excesses = [shape.largest_excess(scores) for scores in calibrate]
    return Band(shape, order_statistic(excesses, alpha), alpha, len(excesses))


def fit_task_bands(
    select: Mapping[str, Sequence[FloatArray]],
    calibrate: Mapping[str, Sequence[FloatArray]],
    alpha: float,
    epsilon: float = EPSILON,
) -> TaskBands:
    """Bands per task and pooled, from scores of successful episodes by task.

    A task's band has the pooled shape where too few of its episodes shape one of its own.

    Raises:
        FailureDetectionError: If even all tasks together are too few.
    """
    pooled_shape = Shape.of([s for scores in select.values() for s in scores], epsilon)
    pooled = scaled(pooled_shape, [s for scores in calibrate.values() for s in scores], alpha)
    by_task = {}
    for task, successes in calibrate.items():
        if len(successes) < TASK_MINIMUM:
            continue
        own = select.get(task, ())
        shape = Shape.of(own, epsilon) if len(own) >= _FEWEST else pooled_shape
        by_task[task] = scaled(shape, successes, alpha)
    return TaskBands(pooled, by_task)


def _require_finite(scores: FloatArray) -> None:
    if not len(scores) or not np.all(np.isfinite(scores)):
        raise FailureDetectionError(f"scores must be finite, and at least one; got {scores[:5]}")
