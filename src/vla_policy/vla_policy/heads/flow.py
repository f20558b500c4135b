# SPDX-License-Identifier: Apache-2.0
"""π0's own head: integrates the flow from noise to actions."""

from __future__ import annotations

import torch
from torch import Tensor

from ..nano_pi0 import NanoPi0, Prefix
from ..samplers import Guidance, Velocity, euler


def flow_velocity(network: NanoPi0, prefix: Prefix, state: Tensor) -> Velocity:
    """The flow of some conditions, for samplers.

    Args:
        network: Whose prefix it is.
        prefix: Of B conditions.
        state: (B, S) normalised.

    Returns:
        The velocity, which takes and gives float32 whatever the network computes in.
    """
    state = state.to(network.dtype)

    def flow(actions: Tensor, t: float, /) -> tuple[Tensor, Tensor]:
        time = torch.full((len(actions), 1), t, device=actions.device)
        v, features = network.velocity(prefix, state, actions[:, None].to(network.dtype), time)
        return v[:, 0].float(), features[:, 0]

    return flow


class FlowHead:
    """Euler steps along the flow.

    Args:
        steps: Their number.

    Attributes:
        steps: Their number.
    """

    has_flow = True

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def sample(
        self,
        network: NanoPi0,
        prefix: Prefix,
        state: Tensor,
        noise: Tensor,
        guidance: Guidance | None,
    ) -> tuple[Tensor, Tensor]:
        """A chunk and its features; see ``Head.sample``."""
        velocity = flow_velocity(network, prefix, state)
        if guidance is not None:
            velocity = guidance(velocity)
        return euler(velocity, noise, self.steps)
