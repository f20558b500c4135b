# SPDX-License-Identifier: Apache-2.0
"""Parallel regression: all steps of a chunk in one pass, trained on the absolute error.

After OpenVLA-OFT (Kim, Finn, Liang, 2025, "Fine-Tuning Vision-Language-Action Models: Optimizing
Speed and Success"). The flow's own network serves as it is: at t = 1, where its input is noise
alone, its velocity at the mean of the noise is that mean minus the mean chunk, so one pass gives
the mean chunk. The head corrects it from the hidden states, towards the median that the absolute
error asks for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..nano_pi0 import NanoPi0, NanoPi0Config, Prefix
from ..samplers import Guidance
from ..types import PolicyError

HIDDEN = 512


class RegressionHead(nn.Module):
    """A correction of the flow's mean chunk, step by step, from the expert's hidden states.

    Args:
        config: Shape of the network that it reads.
        hidden: Width of its layers.
    """

    has_flow = False

    def __init__(self, config: NanoPi0Config, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.expert_width)
        self.enter = nn.Linear(config.expert_width, hidden)
        self.steps = nn.Parameter(torch.zeros(config.horizon, hidden))
        self.mix = nn.Linear(hidden, hidden)
        self.leave = nn.Linear(hidden, config.action_dim)
        # Before training the head is the flow's mean.
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, mean: Tensor, features: Tensor) -> Tensor:
        """Chunks (B, H, A) from the flow's means (B, H, A) and hidden states (B, H, W)."""
        hidden = nn.functional.gelu(self.enter(self.norm(features)) + self.steps)
        correction: Tensor = self.leave(hidden + nn.functional.gelu(self.mix(hidden)))
        return mean + correction

    def sample(
        self,
        network: NanoPi0,
        prefix: Prefix,
        state: Tensor,
        noise: Tensor,
        guidance: Guidance | None,
    ) -> tuple[Tensor, Tensor]:
        """A chunk and its features; see ``Head.sample``. The noise is not used."""
        if guidance is not None:
            raise PolicyError("a regression head has no flow that guidance could bend")
        mean, features = read_out(network, prefix, state)
        return self(mean, features), features[:, None]


def read_out(network: NanoPi0, prefix: Prefix, state: Tensor) -> tuple[Tensor, Tensor]:
    """Mean chunk (B, H, A) of the flow and hidden states (B, H, W) behind it, in one pass."""
    shape = network.config
    silent = state.new_zeros(len(state), 1, shape.horizon, shape.action_dim)
    velocity, features = network.velocity(prefix, state, silent, state.new_ones(len(state), 1))
    return -velocity[:, 0], features[:, 0]
