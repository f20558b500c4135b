# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals of success rates."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_RESAMPLES = 10_000


def wilson_interval(
    successes: int, trials: int, z: float = 1.959963984540054
) -> tuple[float, float]:
    """Wilson score interval (Wilson, 1927) of a proportion.

    Args:
        successes: Number of successes.
        trials: Number of trials.
        z: Normal quantile; the default gives 95 %.

    Raises:
        ValueError: If the counts do not fit together.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials; valid: 0 <= k <= n, n >= 1")
    share = successes / trials
    scale = 1.0 + z * z / trials
    centre = share + z * z / (2.0 * trials)
    spread = z * math.sqrt(share * (1.0 - share) / trials + z * z / (4.0 * trials * trials))
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return low, high


def paired_ratio_interval(
    treated: npt.ArrayLike, control: npt.ArrayLike, groups: npt.ArrayLike
) -> tuple[float, float, float]:
    """Ratio of two success rates on the same scenes, with a 95 % paired bootstrap interval.

    Scenes are drawn with replacement within each group (task), each with both of its outcomes, so
    what makes a scene hard weighs on both sides alike (percentile method; Efron, Tibshirani, 1993).

    Args:
        treated: (n,) outcomes, 0 or 1.
        control: (n,) outcomes of the same scenes.
        groups: (n,) task of each scene.

    Returns:
        Ratio, low and high.

    Raises:
        ValueError: If the lengths differ or no control succeeded.
    """
    sums = _paired_sums(treated, control, groups)
    if sums[0, 1] == 0.0:
        raise ValueError("no scene succeeded in the control: there is no ratio")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = sums[:, 0] / sums[:, 1]
    low, high = np.nanquantile(ratios[1:], (0.025, 0.975))
    return float(ratios[0]), float(low), float(high)


def paired_difference_interval(
    treated: npt.ArrayLike, control: npt.ArrayLike, groups: npt.ArrayLike
) -> tuple[float, float, float]:
    """Difference of two success rates; see ``paired_ratio_interval``."""
    sums = _paired_sums(treated, control, groups) / len(np.asarray(groups))
    differences = sums[:, 0] - sums[:, 1]
    low, high = np.quantile(differences[1:], (0.025, 0.975))
    return float(differences[0]), float(low), float(high)


def _paired_sums(
    treated: npt.ArrayLike, control: npt.ArrayLike, groups: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Successes (1 + resamples, 2) of both sides; the first row is as observed."""
    outcomes = np.stack([np.asarray(treated, float), np.asarray(control, float)], axis=1)
    labels = np.asarray(groups)
    if len(outcomes) != len(labels) or not len(labels):
        raise ValueError(f"{len(outcomes)} outcomes and {len(labels)} groups; need equally many")
    generator = np.random.default_rng(0)
    total = np.zeros((1 + _RESAMPLES, 2))
    for label in np.unique(labels):
        # Scenes with the same pair of outcomes are interchangeable: drawing among the (at most
        # four) pairs that occur is the same as drawing scenes.
        pairs, counts = np.unique(outcomes[labels == label], axis=0, return_counts=True)
        drawn = generator.multinomial(counts.sum(), counts / counts.sum(), size=_RESAMPLES)
        total += np.concatenate([counts[None], drawn]) @ pairs
    return total
