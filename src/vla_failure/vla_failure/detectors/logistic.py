# SPDX-License-Identifier: Apache-2.0
"""Logistic regression on a few measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from ..episodes import FailureDetectionError, Float32Array, FloatArray

# A gradient of the mean loss that counts as none.
_FLAT = 1e-4


@dataclass(frozen=True)
class Logistic:
    """σ(weights · (x − mean) / spread + bias).

    Attributes:
        mean: (F,) of the training rows.
        spread: (F,) standard deviations.
        weights: (F,) of standardised measures.
        bias: Of the logit.
    """

    mean: FloatArray
    spread: FloatArray
    weights: FloatArray
    bias: float

    def arrays(self) -> dict[str, Float32Array]:
        """As arrays of a detector."""
        return {
            "mean": self.mean.astype(np.float32),
            "spread": self.spread.astype(np.float32),
            "weights": self.weights.astype(np.float32),
            "bias": np.array([self.bias], np.float32),
        }


class Standardised:
    """The logit of a regression that was kept as arrays, see ``Logistic.arrays``."""

    def __init__(self, arrays: Mapping[str, Float32Array]) -> None:
        try:
            self._mean, self._scale = arrays["mean"], arrays["weights"] / arrays["spread"]
            self._bias = float(arrays["bias"][0])
        except KeyError as error:
            raise FailureDetectionError(f"a regression was not fitted: no {error}") from error

    def parts(self, measures: Float32Array) -> Float32Array:
        """(F,) what each measure adds to the logit."""
        parts = measures - self._mean
        parts *= self._scale
        return parts

    def logit(self, measures: Float32Array) -> float:
        """Of one row (F,)."""
        return self.total(self.parts(measures))

    def total(self, parts: Float32Array) -> float:
        """The logit that parts add up to."""
        return float(np.add.reduce(parts)) + self._bias


def fit_episodes(
    rows: Sequence[Float32Array], failed: FloatArray, *, penalty: float, nonnegative: bool = False
) -> Logistic:
    """Tells episodes apart by all their inferences: each class counts the same, and each episode.

    Args:
        rows: Per episode (T, F) measures.
        failed: (n,) whether each episode failed, 0 or 1; there are some of either.
        penalty: Above zero.
        nonnegative: Whether weights must not be negative.

    Raises:
        FailureDetectionError: If the optimum was not found.
    """
    lengths = np.array([len(r) for r in rows])
    share = np.where(failed > 0.0, np.sum(failed > 0.0), np.sum(failed == 0.0))
    return fit_logistic(
        np.concatenate(rows),
        np.repeat(failed, lengths),
        np.repeat(1.0 / (lengths * share), lengths),
        penalty=penalty,
        nonnegative=nonnegative,
    )


def fit_logistic(
    rows: npt.NDArray[np.floating],
    wanted: FloatArray,
    weights: FloatArray,
    *,
    penalty: float,
    nonnegative: bool = False,
) -> Logistic:
    """Minimises weighted cross-entropy and ``penalty`` times the squared weights; convex.

    Args:
        rows: (n, F) measures.
        wanted: (n,) 0 or 1.
        weights: (n,) of the rows; only their ratios matter.
        penalty: Above zero.
        nonnegative: Whether weights must not be negative.

    Raises:
        FailureDetectionError: If the optimum was not found.
    """
    values = rows.astype(np.float64)
    mean, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    inputs = (values - mean) / spread
    share = weights / weights.sum()

    def objective(theta: FloatArray) -> tuple[float, FloatArray]:
        logits = inputs @ theta[:-1] + theta[-1]
        loss = share @ (np.logaddexp(0.0, logits) - wanted * logits)
        slope = share * (expit(logits) - wanted)
        gradient = np.append(inputs.T @ slope + 2.0 * penalty * theta[:-1], slope.sum())
        return float(loss + penalty * theta[:-1] @ theta[:-1]), gradient

    count = inputs.shape[1]
    low = 0.0 if nonnegative else None
    result = minimize(
        objective,
        np.zeros(count + 1),
        jac=True,
        method="L-BFGS-B",
        bounds=[(low, None)] * count + [(None, None)],
    )
    gradient = np.asarray(result.jac)
    if nonnegative:  # at a bound only its other side counts
        at_bound = np.append(result.x[:-1] <= 0.0, False)
        gradient = np.where(at_bound, np.minimum(gradient, 0.0), gradient)
    # The line search may give up within rounding of the optimum, which is as good.
    if not result.success and not np.abs(gradient).max() < _FLAT:
        raise FailureDetectionError(f"the logistic regression has no optimum: {result.message}")
    return Logistic(mean, spread, result.x[:-1], float(result.x[-1]))
