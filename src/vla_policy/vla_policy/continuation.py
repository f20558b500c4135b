# SPDX-License-Identifier: Apache-2.0
"""What real-time chunking tells a policy of the chunk under way. Needs no torch.

Black, Galliker, Levine, 2025, "Real-Time Execution of Action Chunking Flow Policies".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .types import Array

MAX_WEIGHT = 5.0  # β of Black et al., 2025


@dataclass(frozen=True)
class Continuation:
    """The chunk that a new one shall go on from.

    The references are absolute: only the policy knows the numbers that they are under the new
    observation and its statistics.

    Attributes:
        commanded: (h, 4, 4) tool poses in the base frame or (h, n) joint positions, rad: what is
            left of the chunk under way, at the times of the new chunk's first steps.
        gripper_opening: (h,) m.
        weights: (H,) between 0 and 1, how much each step of the new chunk is held to it.
        max_weight: β, the bound of the guidance's weight over flow time.

    Raises:
        ValueError: If shapes do not agree, or a value is not finite or out of its range.
    """

    commanded: Array
    gripper_opening: Array
    weights: Array
    max_weight: float = MAX_WEIGHT

    def __post_init__(self) -> None:
        left = len(self.gripper_opening)
        shape = self.commanded.shape
        if shape[:1] != (left,) or not (len(shape) == 2 or shape[1:] == (4, 4)):
            raise ValueError(
                f"references {shape} and openings {self.gripper_opening.shape}; valid: (h, 4, 4) "
                "or (h, joints), and (h,)"
            )
        if self.weights.ndim != 1 or not 0 < left <= len(self.weights):
            raise ValueError(f"weights {self.weights.shape} for {left} references; valid: (H,)")
        if not all(np.isfinite(part).all() for part in vars(self).values()):
            raise ValueError("references, openings, weights and their bound must be finite")
        if self.max_weight < 0.0:
            raise ValueError(f"max_weight is {self.max_weight}; valid: 0 or more")
        if self.weights.min() < 0.0 or self.weights.max() > 1.0:
            raise ValueError("weights must be between 0 and 1")


def overlap_weights(horizon: int, delay: int, executed: int) -> Array:
    """W (H,): how much each step is held to the previous chunk.

    Args:
        horizon: H, steps in a chunk.
        delay: d, steps that will have been executed when the new chunk arrives.
        executed: s, steps of the previous chunk executed before the new observation.

    Returns:
        1 for i < d; ``c·(e^c - 1)/(e - 1)`` with ``c = (H - s - i)/(H - s - d + 1)`` up to H - s,
        the end of the previous chunk; 0 behind it.

    Raises:
        ValueError: If not 0 <= d <= H - s.
    """
    remaining = horizon - executed
    if not 0 <= delay <= remaining <= horizon:
        raise ValueError(
            f"delay {delay} and executed steps {executed}; valid: 0 <= d <= H - s, 0 <= s <= H, "
            f"with H = {horizon}"
        )
    weights = np.zeros(horizon)
    for i in range(remaining):
        c = (remaining - i) / (remaining - delay + 1)
        weights[i] = 1.0 if i < delay else c * math.expm1(c) / (math.e - 1.0)
    return weights


def prefix_weights(horizon: int, delay: int) -> Array:
    """W (H,) that holds the steps executed before the chunk arrives and leaves the others free."""
    return np.where(np.arange(horizon) < delay, 1.0, 0.0)
