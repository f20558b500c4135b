# SPDX-License-Identifier: Apache-2.0
"""Euler steps along a flow."""

from __future__ import annotations

import torch
from torch import Tensor

from .velocity import Velocity


def euler(velocity: Velocity, noise: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Integrates the flow from noise at t = 1 to actions at t = 0.

    Args:
        velocity: The flow.
        noise: (B, H, A) standard normal.
        steps: Number of Euler steps.

    Returns:
        Actions (B, H, A) and features (B, steps, H, W) of every step.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; valid: 1 or more")
    actions = noise
    features = []
    for step in range(steps):
        v, hidden = velocity(actions, 1.0 - step / steps)
        features.append(hidden)
        actions = actions - v / steps
    return actions, torch.stack(features, dim=1)
