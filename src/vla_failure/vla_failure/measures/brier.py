# SPDX-License-Identifier: Apache-2.0
"""How good scores are as probabilities, inference by inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..calibration import Shape
from ..detectors.logistic import Logistic, fit_logistic
from ..episodes import Episode, FloatArray

_PENALTY = 1e-4
# An excess beyond this says no more.
_MOST = 10.0


@dataclass(frozen=True)
class Probability:
    """P(failure | score so far), by logistic regression on the excess over the band's centre.

    (Platt, 1999, "Probabilistic outputs for support vector machines".) Higher scores never mean
    less.

    Attributes:
        shape: Of the band.
        regression: On the excess.
    """

    shape: Shape
    regression: Logistic

    @staticmethod
    def fit(shape: Shape, episodes: Sequence[Episode], scores: Sequence[FloatArray]) -> Probability:
        """Fits it on all open inferences; every episode counts the same.

        Args:
            shape: Of the band.
            episodes: Of successes and others; whoever did not succeed counts as a failure.
            scores: (T_i,) of each.

        Raises:
            FailureDetectionError: If the regression has no optimum.
        """
        rows, wanted, weights = [], [], []
        for episode, values in zip(episodes, scores, strict=True):
            count = open_inferences(episode)
            rows.append(_excesses(shape, values)[:count])
            wanted.append(np.full(count, float(not episode.info.success)))
            weights.append(np.full(count, 1.0 / max(1, count)))
        return Probability(
            shape,
            fit_logistic(
                np.concatenate(rows)[:, None].astype(np.float32),
                np.concatenate(wanted),
                np.concatenate(weights),
                penalty=_PENALTY,
                nonnegative=True,
            ),
        )

    def of(self, scores: FloatArray) -> FloatArray:
        """(T,) from scores (T,)."""
        found = self.regression
        excesses = (_excesses(self.shape, scores) - found.mean[0]) / found.spread[0]
        return np.asarray(1.0 / (1.0 + np.exp(-(excesses * found.weights[0] + found.bias))))


def sequential_brier(
    episodes: Sequence[Episode], probabilities: Sequence[FloatArray]
) -> float | None:
    """Mean squared error of P(failure) over the open inferences of each episode, and over episodes.

    (Brier, 1950, "Verification of forecasts expressed in terms of probability".) What is over,
    succeeded or lost, is no forecast any more.

    Returns:
        None if no episode is left.
    """
    errors = []
    for episode, found in zip(episodes, probabilities, strict=True):
        count = open_inferences(episode)
        if count:
            wrong = found[:count] - float(not episode.info.success)
            errors.append(float(np.mean(np.square(wrong))))
    return float(np.mean(errors)) if errors else None


def open_inferences(episode: Episode) -> int:
    """Inferences before the onset of a failure, or all up to a success or a timeout."""
    onset = episode.info.onset_step
    return len(episode) if onset is None else min(onset, len(episode))


def _excesses(shape: Shape, scores: FloatArray) -> FloatArray:
    return np.clip(shape.excesses(scores), -_MOST, _MOST)
