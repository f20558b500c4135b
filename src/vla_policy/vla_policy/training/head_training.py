# SPDX-License-Identifier: Apache-2.0
"""Trains a regression head on a frozen policy: ``vla train --head l1 --from CHECKPOINT``.

The policy does not change, so what the head reads of each sample is computed once and kept; an
epoch then takes seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import load_flow_policy
from ..checkpoint_delta import save_delta
from ..heads import RegressionHead, read_out
from ..policy import NanoPi0Policy
from .augmentation import normalise_images
from .dataset import TrainingData
from .demonstrations import load_demonstrations

Report = Callable[[dict[str, Any]], None]

_BATCH = 64
_NEAR = 10  # steps executed before the next chunk takes over, latency included


@dataclass(frozen=True)
class HeadConfig:
    """How to train.

    Attributes:
        epochs: Passes over the samples.
        batch_size: Samples per step.
        lr: Peak rate of AdamW; it falls to zero along a cosine.
        weight_decay: Decoupled.
        max_hours: Wall-clock budget of the training itself; what is reached by then is kept.
        seed: Of order and initial weights.
    """

    epochs: int = 30
    batch_size: int = 256
    lr: float = 1.0e-3
    weight_decay: float = 0.01
    max_hours: float = 1.0e6
    seed: int = 0


@dataclass(frozen=True)
class ReadOut:
    """What the head sees of N samples, and what it is to say.

    Attributes:
        mean: (N, H, A) mean chunks of the flow, normalised.
        features: (N, H, W) hidden states, half precision.
        actions: (N, H, A) demonstrated, normalised.
    """

    mean: Tensor
    features: Tensor
    actions: Tensor


def train_head(
    folders: Sequence[Path],
    out_dir: Path,
    base: Path,
    config: HeadConfig | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Trains a head on demonstrations and writes ``out_dir/checkpoint``.

    Args:
        folders: One data set per task.
        out_dir: For images and checkpoint.
        base: Checkpoint whose policy is kept as it is.
        config: How to train.
        report: Called with every log entry.

    Returns:
        What was reached and what was kept; errors are on held-out episodes.

    Raises:
        CheckpointError: If the base cannot be loaded.
    """
    config = config or HeadConfig()
    log: list[dict[str, Any]] = []

    def tell(entry: dict[str, Any]) -> None:
        log.append(entry)
        if report is not None:
            report(entry)

    torch.set_num_threads(1)
    policy = load_flow_policy(base)
    demonstrations = load_demonstrations(
        folders,
        out_dir / "cache",
        image_size=policy.spec.image_size,
        cameras=policy.spec.cameras,
        tokenizer=policy.tokenizer,
        statistics=policy.statistics,
    )
    data = demonstrations.data
    train = read_samples(policy, data, data.train, tell)
    held_out = read_samples(policy, data, data.validation, tell)
    torch.manual_seed(config.seed)
    head = RegressionHead(policy.network.config)
    std = torch.from_numpy(policy.statistics.action_std).float()
    tell({"event": "before", **validate_head(head, held_out, std)})
    fit_head(head, train, held_out, std, config, tell)
    result = {"event": "finished", "samples": len(train.mean), **validate_head(head, held_out, std)}
    tell(result)
    checkpoint = out_dir / "checkpoint"
    identity = save_delta(
        checkpoint,
        head,
        base,
        policy.spec.policy_id,
        {**demonstrations.manifest, "selection_seeds": []},
        log,
    )
    return {**result, "checkpoint": str(checkpoint), "policy_id": identity}


@torch.no_grad()
def read_samples(
    policy: NanoPi0Policy, data: TrainingData, indices: Any, report: Report
) -> ReadOut:
    """Runs the frozen policy once over some samples."""
    means, features = [], []
    for begin in range(0, len(indices), _BATCH):
        part = indices[begin : begin + _BATCH]
        tokens, valid = data.instruction_tokens(part, torch.zeros(len(part)))
        images = normalise_images(torch.from_numpy(data.read_images(part)))
        prefix = policy.network.encode(images, tokens, valid)
        mean, hidden = read_out(policy.network, prefix, data.state[part])
        means.append(mean)
        features.append(hidden.half())
        if begin // _BATCH % 50 == 0:
            report({"event": "reading", "done": begin, "total": len(indices)})
    return ReadOut(torch.cat(means), torch.cat(features), data.actions[torch.from_numpy(indices)])


def validate_head(head: RegressionHead, samples: ReadOut, std: Tensor) -> dict[str, float]:
    """Absolute error (normalised) and errors in mm over the steps executed."""
    with torch.no_grad():
        predicted = head(samples.mean, samples.features.float())
    error = predicted - samples.actions
    metres = error * std
    return {
        "validation_l1": float(error.abs().mean()),
        "validation_position_mm": float(metres[:, :_NEAR, :3].norm(dim=-1).mean()) * 1e3,
        "validation_gripper_mm": float(metres[:, :_NEAR, -1].abs().mean()) * 1e3,
    }


def fit_head(
    head: RegressionHead,
    train: ReadOut,
    held_out: ReadOut,
    std: Tensor,
    config: HeadConfig,
    report: Report,
) -> None:
    """Trains a head on what it reads; ``std`` (H, A) is the actions' spread, for errors in mm."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    generator = np.random.default_rng(config.seed)
    count = len(train.mean)
    steps = config.epochs * math.ceil(count / config.batch_size)
    start, step = time.monotonic(), 0
    for epoch in range(config.epochs):
        order = torch.from_numpy(generator.permutation(count))
        total = 0.0
        for begin in range(0, count, config.batch_size):
            part = order[begin : begin + config.batch_size]
            progress = max(step / steps, (time.monotonic() - start) / (3600.0 * config.max_hours))
            if progress >= 1.0:
                return
            for group in optimizer.param_groups:
                group["lr"] = config.lr * 0.5 * (1.0 + math.cos(math.pi * progress))
            predicted = head(train.mean[part], train.features[part].float())
            loss = (predicted - train.actions[part]).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(part)
            step += 1
        report({"epoch": epoch, "l1": total / count, **validate_head(head, held_out, std)})
