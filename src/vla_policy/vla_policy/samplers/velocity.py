# SPDX-License-Identifier: Apache-2.0
"""What a sampler knows of a policy: the velocity of its flow, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor


class Velocity(Protocol):
    """Velocity of the flow at (actions, t), with the features it is projected from.

    ``actions`` is (B, H, A) in normalised units and t runs from 1 (noise) to 0 (actions).
    """

    def __call__(self, actions: Tensor, t: float, /) -> tuple[Tensor, Tensor]:
        """Velocity (B, H, A) and features (B, H, W)."""
        ...


# Changes the flow that is sampled: real-time chunking, rewards.
Guidance = Callable[[Velocity], Velocity]
