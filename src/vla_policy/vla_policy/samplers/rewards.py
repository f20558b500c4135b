# SPDX-License-Identifier: Apache-2.0
"""Rewards on where a chunk takes the tool, as objectives of guidance.

After VLS (Vision-Language Steering): a frozen policy is steered by the gradient of a differentiable
reward, through the actions that its flow is about to arrive at. Guidance makes a reward likelier;
it guarantees nothing, and the controller's own limits stay in force.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..actions.frame import ActionFrame
from ..continuation import MAX_WEIGHT
from ..types import Array
from .guidance import Objective, guidance_weight

# Tool positions (B, H, 3) in the base frame, m, to a scalar in m²; its gradient is the displacement
# (m) that each position should make.
Reward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class KeepOutSphere:
    """No tool position shall be inside a sphere.

    Attributes:
        centre: (3,) in the base frame, m.
        radius: m.
    """

    centre: Array
    radius: float

    def __call__(self, positions: Tensor) -> Tensor:
        """Minus half the squared depths of penetration."""
        away = positions - torch.as_tensor(self.centre).to(positions)
        depth = (self.radius - away.norm(dim=-1)).clamp_min(0.0)
        result: Tensor = -0.5 * depth.square().sum()
        return result


@dataclass(frozen=True)
class TargetRegion:
    """The chunk shall end inside a sphere.

    Attributes:
        centre: (3,) in the base frame, m.
        radius: m.
    """

    centre: Array
    radius: float

    def __call__(self, positions: Tensor) -> Tensor:
        """Minus half the squared distance of the last position from the region."""
        away = positions[..., -1, :] - torch.as_tensor(self.centre).to(positions)
        beyond = (away.norm(dim=-1) - self.radius).clamp_min(0.0)
        result: Tensor = -0.5 * beyond.square().sum()
        return result


def reward_objective(
    reward: Reward, frame: ActionFrame, strength: float = 1.0, max_weight: float = MAX_WEIGHT
) -> Objective:
    """Objective that climbs a reward.

    Args:
        reward: Of tool positions.
        frame: Of the observation that the chunk is for.
        strength: Factor on the displacement.
        max_weight: Bound of the weight over flow time.
    """

    def objective(clean: Tensor, t: float) -> Tensor:
        with torch.enable_grad():
            actions = frame.restore(clean).requires_grad_(True)
            value = reward(frame.positions(actions))
        (gradient,) = torch.autograd.grad(value, actions)
        return strength * guidance_weight(t, max_weight) * frame.displacement(gradient)

    return objective
