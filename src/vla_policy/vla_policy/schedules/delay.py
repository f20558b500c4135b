# SPDX-License-Identifier: Apache-2.0
"""How late chunks are, from what the controller has consumed."""

from __future__ import annotations

import math
from collections import deque
from statistics import median_low

WINDOW = 10  # b of Black et al., 2025
_ON_GRID = 1e-3  # steps by which a delay may miss the grid and still count as on it


class DelayWindow:
    """The delay to expect, in steps: the largest of the last ten measured.

    A window and not a maximum over all time, so that one slow inference, such as the first, is
    forgotten.

    Args:
        step_dt: Time between steps, s.
        initial: Delay expected before anything has been measured, s.
    """

    def __init__(self, step_dt: float, initial: float) -> None:
        self._step_dt = step_dt
        self._steps: deque[int] = deque(maxlen=WINDOW)
        self.measured(initial)

    @property
    def steps(self) -> int:
        """d, steps of a chunk that have passed when it is taken up."""
        return max(self._steps)

    @property
    def typical(self) -> float:
        """The median of the last ten, in whole steps, s: one slow inference does not change it."""
        return self._step_dt * median_low(self._steps)

    def measured(self, delay: float) -> None:
        """Notes how old a chunk's observation was when the controller took it up, s.

        Raises:
            ValueError: If it is negative or not finite.
        """
        if not 0.0 <= delay < math.inf:
            raise ValueError(f"a delay of {delay} s; valid: 0 or more")
        self._steps.append(math.ceil(delay / self._step_dt - _ON_GRID))
