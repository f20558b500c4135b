# SPDX-License-Identifier: Apache-2.0
"""Guidance of a flow through the actions that it is about to arrive at.

From x at time t the flow arrives at about ``A1 = x - t·v(x, t)``. An objective says where A1
should move; the flow is bent by that displacement's vector-Jacobian product through the network,
``v - (∂A1/∂x)ᵀ·pull``, as pseudo-inverse guidance does (Song et al., 2023; Black et al., 2025).
Without the network's Jacobian, which an identity is at times put for, only the steps that an
objective names would move and the others would not follow.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..continuation import MAX_WEIGHT
from ..types import PolicyError
from .velocity import Guidance, Velocity

# Clean actions (B, H, A) in normalised units and flow time, to the displacement (B, H, A) wanted,
# weighed for that time.
Objective = Callable[[Tensor, float], Tensor]


def guidance_weight(t: float, max_weight: float = MAX_WEIGHT) -> float:
    """λ of real-time chunking at flow time t (1 = noise, where τ = 1 - t = 0).

    ``min(β, (1 - τ) / (τ·r²))`` with ``r² = (1 - τ)² / (τ² + (1 - τ)²)`` (Black, Galliker, Levine,
    2025, "Real-Time Execution of Action Chunking Flow Policies").
    """
    tau = 1.0 - t
    if t <= 0.0 or tau <= 0.0:
        return max_weight
    return min(max_weight, (tau * tau + t * t) / (tau * t))


def guided(*objectives: Objective) -> Guidance:
    """Guidance by the sum of some objectives, at the cost of one vector-Jacobian product.

    The network's parameters should be frozen: then the product runs through the activations of
    what depends on the actions only, the action expert.

    Raises:
        ValueError: If there is no objective.
        PolicyError: From the flow, if the velocity carries no gradient with respect to the
            actions: guidance would silently be another algorithm.
    """
    if not objectives:
        raise ValueError("guidance needs one objective or more")

    def guide(velocity: Velocity) -> Velocity:
        def flow(actions: Tensor, t: float, /) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                x = actions.detach().requires_grad_(True)
                v, features = velocity(x, t)
                if not v.requires_grad:
                    raise PolicyError("the policy's velocity carries no gradient: no guidance")
                clean = x - t * v
            now = clean.detach()
            pull = torch.stack([objective(now, t) for objective in objectives]).sum(0)
            (product,) = torch.autograd.grad(clean, x, pull)
            return v.detach() - product, features.detach()

        return flow

    return guide
