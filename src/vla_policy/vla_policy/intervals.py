# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals of success rates."""

from __future__ import annotations

import math


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
