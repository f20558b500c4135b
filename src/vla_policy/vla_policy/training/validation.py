# SPDX-License-Identifier: Apache-2.0
"""Losses and errors in millimetres on held-out episodes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..samplers import euler
from .augmentation import normalise_images
from .dataset import TrainingData
from .objective import Batch, Objective, sample_time

# Enough for a millimetre; more would cost as much as the training between two validations.
_SAMPLES = 256
_BATCH = 64
# Steps that are executed before the next chunk takes over, latency included.
_NEAR = 10


@torch.no_grad()
def validate(
    objective: Objective, data: TrainingData, device: torch.device, dtype: torch.dtype
) -> dict[str, float]:
    """Errors of chunks sampled with fixed noise.

    Args:
        objective: Network and auxiliary head, with the weights to be judged.
        data: Whose validation split is used, a fixed part of it where it is large.
        device: Of the network.
        dtype: Of the network.

    Returns:
        Flow loss; mean distance (mm) of commanded positions over the steps that are executed and
        at the last step; error of the gripper's opening (mm); mean and median error (mm) of
        every auxiliary position.
    """
    indices = data.validation
    if len(indices) > _SAMPLES:
        indices = np.sort(np.random.default_rng(0).permutation(indices)[:_SAMPLES])
    shape = objective.policy.config
    generator = torch.Generator().manual_seed(1)
    std = torch.from_numpy(data.statistics.action_std).float()
    flow: list[Tensor] = []
    chunks: list[Tensor] = []
    positions: list[Tensor] = []
    for begin in range(0, len(indices), _BATCH):
        part = indices[begin : begin + _BATCH]
        count = len(part)
        tokens, valid = data.instruction_tokens(part, torch.zeros(count))
        tensors = {
            "token_ids": tokens,
            "token_valid": valid,
            "state": data.state[part],
            "actions": data.actions[part],
            "actions_valid": data.actions_valid[part],
            "noise": torch.randn((count, 1, shape.horizon, shape.action_dim), generator=generator),
            "time": sample_time((count, 1), generator),
            "positions": data.positions[part],
            "positions_valid": data.positions_valid[part],
            "patches": data.patches[part],
        }
        images = torch.from_numpy(data.read_images(part)).to(device)
        batch = Batch(
            images=normalise_images(images, dtype), **{k: v.to(device) for k, v in tensors.items()}
        )
        flow.append(objective(batch)[1].cpu() * count)
        chunks.append((_sample(objective, batch).cpu() - data.actions[part]) * std)
        difference = (objective.positions(batch).cpu() - data.positions[part]) * data.position_scale
        positions.append(_distances_mm(difference, data.positions_valid[part]))
    error = torch.cat(chunks)
    valid = data.actions_valid[indices]
    distance = error[..., :3].norm(dim=-1) * 1e3
    opening = error[..., 9].abs() * 1e3
    result = {
        "validation_flow_loss": float(torch.stack(flow).sum()) / len(indices),
        "validation_position_mm": _mean(distance[:, :_NEAR], valid[:, :_NEAR]),
        "validation_last_step_mm": _mean(distance[:, -1], valid[:, -1]),
        "validation_gripper_mm": _mean(opening[:, :_NEAR], valid[:, :_NEAR]),
    }
    for i, name in enumerate(data.position_names):
        column = torch.cat(positions)[:, i]
        known = column[~torch.isnan(column)]
        if len(known):
            result[f"validation_{name}_mm"] = float(known.mean())
            result[f"validation_{name}_median_mm"] = float(known.median())
    return result


def _mean(values: Tensor, valid: Tensor) -> float:
    """Mean over what counts."""
    return float((values * valid).sum() / valid.sum().clamp_min(1.0))


def _sample(objective: Objective, batch: Batch) -> Tensor:
    policy, dtype = objective.policy, batch.images.dtype
    prefix = policy.encode(batch.images, batch.token_ids, batch.token_valid)

    def velocity(actions: Tensor, t: float, /) -> tuple[Tensor, Tensor]:
        time = torch.full((len(actions), 1), t, device=actions.device)
        v, features = policy.velocity(
            prefix, batch.state.to(dtype), actions[:, None].to(dtype), time
        )
        return v[:, 0].float(), features[:, 0]

    return euler(velocity, batch.noise[:, 0], policy.config.flow_steps)[0]


def _distances_mm(difference: Tensor, valid: Tensor) -> Tensor:
    """Distances (B, P/3) in mm of differences (B, P) in m; NaN where there is no target."""
    known = valid.reshape(len(valid), -1, 3).amin(-1) > 0
    points = difference.reshape(len(difference), -1, 3)
    return torch.where(known, points.norm(dim=-1) * 1e3, torch.nan)
