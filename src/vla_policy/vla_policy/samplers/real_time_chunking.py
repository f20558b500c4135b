# SPDX-License-Identifier: Apache-2.0
"""Real-time chunking: the new chunk is sampled so that it goes on where the old one is.

Black, Galliker, Levine, 2025, "Real-Time Execution of Action Chunking Flow Policies".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .guidance import MAX_WEIGHT, Objective, guidance_weight


def overlap_weights(horizon: int, delay: int, executed: int) -> Tensor:
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
    weights = torch.zeros(horizon)
    for i in range(remaining):
        c = (remaining - i) / (remaining - delay + 1)
        weights[i] = 1.0 if i < delay else c * math.expm1(c) / (math.e - 1.0)
    return weights


def real_time_chunking(
    previous: Tensor, weights: Tensor, max_weight: float = MAX_WEIGHT
) -> Objective:
    """Objective that holds a chunk to the previous one.

    Args:
        previous: (B, H, A) rest of the previous chunk, normalised as the new one's steps are.
        weights: (H,), see ``overlap_weights``.
        max_weight: β.
    """
    column = weights[:, None].to(previous)

    def objective(clean: Tensor, t: float) -> Tensor:
        return guidance_weight(t, max_weight) * column * (previous - clean)

    return objective
