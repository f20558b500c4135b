# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are another checkpoint and a small head: ``head.safetensors`` beside a config
that names the base by its id.
"""  # noqa: D205

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from .checkpoint import (
    CONFIG,
    FORMAT,
    LOG,
    default_checkpoint,
    load_flow_policy,
    load_weights,
    read_manifest,
    write_json,
    write_manifest,
)
from .heads import RegressionHead
from .interface import Policy
from .policy import NanoPi0Policy
from .types import CheckpointError

TYPE = "nano_pi0_l1"
HEAD = "head.safetensors"
OWN = "nano_pi0"  # stands for the checkpoint that comes with the package
FEATURES = "pre_action"


def save_delta(
    folder: Path,
    head: RegressionHead,
    base: Path,
    base_id: str,
    manifest: dict[str, Any],
    training_log: list[dict[str, Any]],
) -> str:
    """Writes a head and returns the id of base and head together.

    Args:
        folder: Made if missing.
        head: Its weights are stored in bf16.
        base: Folder of the checkpoint that it was trained on.
        base_id: Policy id of that.
        manifest: What the head was trained on; what the base was trained on is added, since
            scenes that either has seen are no scenes to evaluate on.
        training_log: Entries of the training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().to("cpu", torch.bfloat16).contiguous()
        for name, value in head.state_dict().items()
    }
    temporary = folder / (HEAD + ".tmp")
    save_file(weights, temporary)
    os.replace(temporary, folder / HEAD)
    own = base.resolve() == default_checkpoint().resolve()
    config = {
        "format": FORMAT,
        "type": TYPE,
        "base": {
            "policy_id": base_id,
            "checkpoint": OWN if own else os.path.relpath(base, folder),
        },
        "head": {"hidden": head.enter.out_features},
    }
    write_json(folder, CONFIG, config)
    write_json(folder, LOG, training_log)
    known = read_manifest(base)
    for name in ("demonstrations", "validation_seeds", "selection_seeds"):
        manifest = {**manifest, name: [*manifest[name], *known[name]]}
    write_manifest(folder, manifest)
    return _identity(folder)


def load_delta(folder: Path, config: dict[str, Any], device: str, threads: int | None) -> Policy:
    """Loads base and head.

    Raises:
        CheckpointError: If the base is missing or not the one that the head was trained on, or the
            head's weights do not fit.
    """
    try:
        name, base_id = config["base"]["checkpoint"], config["base"]["policy_id"]
        hidden = int(config["head"]["hidden"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG} lacks {error}") from error
    base_folder = default_checkpoint() if name == OWN else folder / name
    if not base_folder.is_dir():
        raise CheckpointError(f"the base of {folder} is missing: no folder {base_folder}")
    base = load_flow_policy(base_folder, device, threads)
    if base.spec.policy_id != base_id:
        raise CheckpointError(
            f"{folder} is a head for the policy {base_id}; the checkpoint in {base_folder} is "
            f"{base.spec.policy_id}"
        )
    shape = base.network.config
    head = RegressionHead(shape, hidden).to(device)
    load_weights(head, folder / HEAD)
    spec = replace(
        base.spec,
        feature_name=FEATURES,
        feature_shape=(1, shape.horizon, shape.expert_width),
        policy_id=_identity(folder),
    )
    return NanoPi0Policy(
        base.network,
        base.tokenizer,
        base.statistics,
        spec,
        device,
        threads,
        head.eval().requires_grad_(False),
    )


def _identity(folder: Path) -> str:
    """Hash of the head and of what names its base."""
    digest = hashlib.sha256()
    for name in (HEAD, CONFIG):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]
