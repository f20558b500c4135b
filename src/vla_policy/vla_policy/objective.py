# SPDX-License-Identifier: Apache-2.0
"""The training objective: flow matching on K noised copies, and object positions beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from .nano_pi0 import NanoPi0


@dataclass(frozen=True)
class Batch:
    """One batch on the training device.

    Attributes:
        images: (B, cameras, 3, size, size) in [-1, 1].
        token_ids: (B, T) int64.
        token_valid: (B, T) bool.
        state: (B, S) normalised.
        actions: (B, H, A) normalised.
        noise: (B, K, H, A) standard normal.
        time: (B, K) flow time, 1 = noise.
        positions: (B, P) auxiliary targets, m, scaled.
        positions_valid: (B, P) 1 where the target exists, else 0.
    """

    images: Tensor
    token_ids: Tensor
    token_valid: Tensor
    state: Tensor
    actions: Tensor
    noise: Tensor
    time: Tensor
    positions: Tensor
    positions_valid: Tensor


def split_batch(batch: Batch, parts: int) -> Iterator[Batch]:
    """Equal parts of a batch."""
    pieces = {f.name: getattr(batch, f.name).chunk(parts) for f in fields(batch)}
    for i in range(parts):
        yield Batch(**{name: piece[i] for name, piece in pieces.items()})


class Objective(nn.Module):
    """Policy plus the auxiliary head, which exists in training only.

    Args:
        policy: The network.
        position_dim: Number of auxiliary targets.
        position_weight: Weight of the auxiliary loss.
    """

    def __init__(self, policy: NanoPi0, position_dim: int, position_weight: float) -> None:
        super().__init__()
        self.policy = policy
        width = policy.config.expert_width
        self.position_head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, position_dim)
        )
        self.position_weight = position_weight

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Total loss, flow loss and auxiliary loss, each a scalar in fp32."""
        prefix = self.policy.encode(batch.images, batch.token_ids, batch.token_valid)
        dtype = batch.images.dtype
        noised, target = interpolate(batch.actions, batch.noise, batch.time)
        velocity, _, state_hidden = self.policy.velocity(
            prefix, batch.state.to(dtype), noised.to(dtype), batch.time
        )
        flow = (velocity.float() - target).square().mean()
        error = self.position_head(state_hidden).float() - batch.positions
        robust = torch.nn.functional.smooth_l1_loss(
            error, torch.zeros_like(error), beta=0.1, reduction="none"
        )
        position = (robust * batch.positions_valid).sum() / batch.positions_valid.sum().clamp_min(1)
        return flow + self.position_weight * position, flow, position

    def positions(self, batch: Batch) -> Tensor:
        """Predicted auxiliary targets (B, P), scaled."""
        prefix = self.policy.encode(batch.images, batch.token_ids, batch.token_valid)
        dtype = batch.images.dtype
        noised, _ = interpolate(batch.actions, batch.noise, batch.time)
        _, _, hidden = self.policy.velocity(
            prefix, batch.state.to(dtype), noised.to(dtype), batch.time
        )
        result: Tensor = self.position_head(hidden).float()
        return result


def interpolate(actions: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Noised chunks and their target velocity (Black et al., 2024).

    Args:
        actions: (B, H, A).
        noise: (B, K, H, A).
        time: (B, K), 1 = noise.

    Returns:
        ``t·noise + (1 - t)·actions`` and ``noise - actions``, both (B, K, H, A).
    """
    t = time[..., None, None]
    clean = actions[:, None]
    return t * noise + (1.0 - t) * clean, noise - clean


def sample_time(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """π0's flow time: 0.001 + 0.999·Beta(1.5, 1), which favours noisy times.

    Beta(1.5, 1) is drawn by inversion, ``u^(1/1.5)``, from the given generator.
    """
    return 0.001 + 0.999 * torch.rand(shape, generator=generator).pow(1.0 / 1.5)
