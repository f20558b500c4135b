# SPDX-License-Identifier: Apache-2.0
"""Real-time chunking: the new chunk is sampled so that it goes on where the old one is.

Black, Galliker, Levine, 2025, "Real-Time Execution of Action Chunking Flow Policies".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..actions.frame import ActionFrame
from ..continuation import MAX_WEIGHT, Continuation
from .guidance import Objective, guidance_weight, guided
from .velocity import Guidance


def real_time_chunking(
    previous: Tensor, weights: Tensor, max_weight: float | Sequence[float] = MAX_WEIGHT
) -> Objective:
    """Objective that holds a chunk to the previous one.

    Args:
        previous: (B, H, A) rest of the previous chunk, normalised as the new one's steps are.
        weights: (H,) or (B, H), see ``overlap_weights``.
        max_weight: β, one or B of them.
    """
    column = weights[..., None].to(previous)
    bounds = previous.new_tensor(max_weight).reshape(-1, 1, 1)

    def objective(clean: Tensor, t: float) -> Tensor:
        return bounds.clamp(max=guidance_weight(t, math.inf)) * column * (previous - clean)

    return objective


def continue_chunks(
    frames: Sequence[ActionFrame], continuations: Sequence[Continuation]
) -> Guidance:
    """Guidance of a batch, each of which goes on from a chunk of its own.

    Args:
        frames: Of the new observations.
        continuations: As many.

    Raises:
        ValueError: If one does not fit the policy's chunks.
    """
    previous = torch.cat(
        [
            frame.encode(one.commanded, one.gripper_opening)
            for frame, one in zip(frames, continuations, strict=True)
        ]
    )
    weights = torch.from_numpy(np.stack([one.weights for one in continuations]))
    if weights.shape != previous.shape[:2]:
        raise ValueError(f"{weights.shape[1]} weights for chunks of {previous.shape[1]} steps")
    bounds = [one.max_weight for one in continuations]
    return guided(real_time_chunking(previous, weights, bounds))
