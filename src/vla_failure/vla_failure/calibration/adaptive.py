# SPDX-License-Identifier: Apache-2.0
"""A band that learns while it is in use: on tasks it was not calibrated on it has to.

Its pool of excesses grows by every episode whose success was confirmed, and its level follows the
false alarms it made (Gibbs, Candès, 2021, "Adaptive conformal inference under distribution shift").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..episodes import FailureDetectionError, FloatArray
from .band import Band, Shape, order_statistic

# Levels beyond these ask for more than a pool can give.
_LEAST, _MOST = 1e-3, 0.5


class AdaptiveBand:
    """A band whose quantile changes between episodes, never within one.

    Args:
        shape: μ_t and m_t.
        prior: Excesses R of calibration successes, of other tasks.
        alpha: Rate of false alarms per successful episode that is aimed at.
        weight: For how many successes the prior counts: so many of its quantiles stay in the pool.
        rate: γ, by how much of an error the level moves; 0 leaves it at α.
    """

    def __init__(
        self,
        shape: Shape,
        prior: Sequence[float] | FloatArray,
        alpha: float,
        *,
        weight: int = 20,
        rate: float = 0.02,
    ) -> None:
        if weight < 1 or not 0.0 <= rate < 1.0:
            raise FailureDetectionError(
                f"weight {weight} and rate {rate}; valid: 1 or more, and 0 to below 1"
            )
        order_statistic(prior, alpha)  # which refuses what is too few
        self.shape = shape
        self.alpha = alpha
        self._rate = rate
        self._level = alpha
        shares = (np.arange(weight) + 0.5) / weight
        kept = np.quantile(np.asarray(prior, float), shares, method="higher")
        self._pool: list[float] = (kept if len(prior) > weight else np.asarray(prior)).tolist()

    @property
    def level(self) -> float:
        """The level that the order statistic is taken at now."""
        return self._level

    @property
    def band(self) -> Band:
        """The band for the next episode."""
        # A level that the pool is too small for gets its largest excess.
        level = max(self._level, 1.0 / (len(self._pool) + 1))
        quantile = order_statistic(self._pool, level)
        return Band(self.shape, quantile, self.alpha, len(self._pool))

    def learn(self, scores: FloatArray, *, alarmed: bool) -> None:
        """Takes note of an episode that is over and was confirmed to be a success.

        Args:
            scores: (T,) of the episode.
            alarmed: Whether the band that was in force alarmed.
        """
        self._pool.append(self.shape.largest_excess(scores))
        level = self._level + self._rate * (self.alpha - float(alarmed))
        self._level = min(_MOST, max(_LEAST, level))


@dataclass(frozen=True)
class Verdict:
    """What became of one episode of a stream.

    Attributes:
        index: In the stream.
        success: Whether it succeeded.
        first_alarm: Step at which the band alarmed; None for none.
        quantile: Q that was in force.
    """

    index: int
    success: bool
    first_alarm: int | None
    quantile: float


def prequential(
    band: AdaptiveBand,
    stream: Iterable[tuple[FloatArray, bool]],
    *,
    feedback: float = 1.0,
    seed: int = 0,
) -> list[Verdict]:
    """Every episode is judged before it is learned from, the first ones too (Dawid, 1984).

    An alarm is noted and does not end its episode.

    Args:
        band: That is in force and learns.
        stream: Scores (T,) of episodes in the order of time, and whether each succeeded.
        feedback: Share of the episodes of which the outcome becomes known, after they are over.
        seed: Of which ones.

    Raises:
        FailureDetectionError: If the share is none.
    """
    if not 0.0 <= feedback <= 1.0:
        raise FailureDetectionError(f"feedback is {feedback}; valid: 0 to 1")
    rng = np.random.default_rng(seed)
    verdicts = []
    for index, (scores, success) in enumerate(stream):
        in_force = band.band
        first = in_force.first_alarm(scores)
        verdicts.append(Verdict(index, success, first, in_force.quantile))
        if rng.random() < feedback and success:
            band.learn(scores, alarmed=first is not None)
    return verdicts
