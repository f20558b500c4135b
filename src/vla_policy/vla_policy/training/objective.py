# SPDX-License-Identifier: Apache-2.0
"""The training objective: flow matching on K noised copies, and object positions beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from ..nano_pi0 import ExpertOutput, NanoPi0, Prefix

# The named cube, and where it goes: bowl, zone, other cube or a place on the table.
_NAMED = 2
# Language layers whose values must tell the named patches from the others.
_VALUE_LAYERS = 2


@dataclass(frozen=True)
class Batch:
    """One batch on the training device.

    Attributes:
        images: (B, cameras, 3, size, size) in [-1, 1].
        token_ids: (B, T) int64.
        token_valid: (B, T) bool.
        state: (B, S) normalised.
        actions: (B, H, A) normalised.
        actions_valid: (B, H) 1 where a step counts in the loss, else 0.
        noise: (B, K, H, A) standard normal.
        time: (B, K) flow time, 1 = noise.
        positions: (B, P) auxiliary targets, m, scaled.
        positions_valid: (B, P) 1 where the target exists, else 0.
        patches: (B, cameras, C) patch that shows each of C objects, -1 for hidden; the last two
            are those that the words name.
    """

    images: Tensor
    token_ids: Tensor
    token_valid: Tensor
    state: Tensor
    actions: Tensor
    actions_valid: Tensor
    noise: Tensor
    time: Tensor
    positions: Tensor
    positions_valid: Tensor
    patches: Tensor


def split_batch(batch: Batch, parts: int) -> Iterator[Batch]:
    """Equal parts of a batch."""
    pieces = {f.name: getattr(batch, f.name).chunk(parts) for f in fields(batch)}
    for i in range(parts):
        yield Batch(**{name: piece[i] for name, piece in pieces.items()})


class Objective(nn.Module):
    """Policy plus the auxiliary heads, which exist in training only.

    Positions are regressed at the state token, which puts objects in relation to the arm. What
    is where is also asked of every patch: of the projected image tokens for all objects, and,
    for those that the words name, of the values that the action expert reads in the last layers.

    Args:
        policy: The network.
        position_dim: Number of positions regressed.
        objects: Number of objects that patches may show, the two named ones included.
        position_weight: Weight of the regression.
        patch_weight: Weight of the patches' cross-entropies.
    """

    def __init__(
        self,
        policy: NanoPi0,
        position_dim: int,
        objects: int,
        position_weight: float,
        patch_weight: float,
    ) -> None:
        super().__init__()
        self.policy = policy
        config = policy.config
        self.state_position_head = _head(config.expert_width, position_dim)
        self.object_patch_head = nn.Linear(config.language_width, objects - _NAMED)
        value_width = _VALUE_LAYERS * config.kv_heads * config.head_dim
        self.named_patch_head = nn.Linear(value_width, _NAMED)
        self.position_weight = position_weight
        self.patch_weight = patch_weight

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Total loss, flow loss and position loss, each a scalar in fp32."""
        dtype = batch.images.dtype
        prefix = self.policy.encode(batch.images, batch.token_ids, batch.token_valid)
        noised, target = interpolate(batch.actions, batch.noise, batch.time)
        output = self.policy.expert(prefix, batch.state.to(dtype), noised.to(dtype), batch.time)
        flow = _flow_loss((output.velocity.float() - target).square(), batch.actions_valid)
        position = _position_loss(self.state_position_head(output.state_hidden), batch)
        patch = _patch_loss(self.object_patch_head(prefix.patches), batch.patches[..., :-_NAMED])
        named = self.named_patch_head(_image_values(prefix))
        patch = patch + _patch_loss(named, batch.patches[..., -_NAMED:])
        patch = patch + self._attention_loss(prefix, output, batch.patches[..., -_NAMED:])
        total = flow + self.position_weight * position + self.patch_weight * patch
        return total, flow, position

    def _attention_loss(self, prefix: Prefix, output: ExpertOutput, named: Tensor) -> Tensor:
        """Cross-entropy of the state token's attention in the last layers.

        The first head is to look at the named cube in the first camera, the second in the second
        camera, the third at where that goes in the first camera: left to itself, the state token
        attends to the arm's own whereabouts for a long time.
        """
        config = self.policy.config
        patches = config.image_tokens // config.cameras
        wanted = [(0, 0), (min(1, config.cameras - 1), 0), (0, 1)][: config.heads]
        losses = []
        for layer in range(config.layers - _VALUE_LAYERS, config.layers):
            spread = self.policy.state_attention(prefix, output, layer).float().log_softmax(-1)
            for head, (camera, thing) in enumerate(wanted):
                target = named[:, camera, thing]
                index = target.clamp_min(0) + camera * patches
                chosen = spread[:, head].gather(1, index[:, None])[:, 0]
                visible = (target >= 0).float()
                losses.append(-(chosen * visible).sum() / visible.sum().clamp_min(1.0))
        return torch.stack(losses).mean()

    def positions(self, batch: Batch) -> Tensor:
        """Auxiliary targets (B, P) as predicted at the state token, scaled."""
        prefix = self.policy.encode(batch.images, batch.token_ids, batch.token_valid)
        dtype = batch.images.dtype
        noised, _ = interpolate(batch.actions, batch.noise, batch.time)
        output = self.policy.expert(prefix, batch.state.to(dtype), noised.to(dtype), batch.time)
        result: Tensor = self.state_position_head(output.state_hidden).float()
        return result


def _head(width: int, position_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 256), nn.GELU(), nn.Linear(256, position_dim)
    )


def _image_values(prefix: Prefix) -> Tensor:
    """Values (B, image tokens, layers·heads·head_dim) of the image tokens in the last layers."""
    count = prefix.patches.shape[1]
    layers = [v[:, :, :count].transpose(1, 2).flatten(2) for v in prefix.values[-_VALUE_LAYERS:]]
    return torch.cat(layers, dim=-1)


def _patch_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy over the patches of every camera.

    Args:
        logits: (B, cameras·patches, C).
        target: (B, cameras, C), -1 for hidden.
    """
    batch, cameras, classes = target.shape
    spread = logits.float().reshape(batch, cameras, -1, classes).log_softmax(dim=2)
    chosen = spread.gather(2, target.clamp_min(0)[:, :, None])[:, :, 0]
    visible = (target >= 0).float()
    return -(chosen * visible).sum() / visible.sum().clamp_min(1.0)


def _flow_loss(errors: Tensor, valid: Tensor) -> Tensor:
    """Mean of squared errors (B, K, H, A) over the steps (B, H) that count."""
    per_step = errors.mean(dim=(1, 3))
    return (per_step * valid).sum() / valid.sum().clamp_min(1.0)


def _position_loss(predicted: Tensor, batch: Batch) -> Tensor:
    error = predicted.float() - batch.positions
    robust = torch.nn.functional.smooth_l1_loss(
        error, torch.zeros_like(error), beta=0.1, reduction="none"
    )
    return (robust * batch.positions_valid).sum() / batch.positions_valid.sum().clamp_min(1)


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
