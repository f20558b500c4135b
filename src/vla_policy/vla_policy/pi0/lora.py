# SPDX-License-Identifier: Apache-2.0
"""LoRA adapters of π0 as ``peft`` saves them, merged into the network's weights.

W + scale · B A with scale = alpha / r, or alpha / √r (Hu et al., 2021; Kalajdzievski, 2023).
Merged, an adapter costs nothing at inference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..nano_pi0 import NanoPi0
from ..types import CheckpointError
from .layout import our_name

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
# What changes the formula above, with the value that does not.
_PLAIN: dict[str, Any] = {
    "bias": "none",
    "use_dora": False,
    "use_qalora": False,
    "fan_in_fan_out": False,
    "lora_bias": False,
}


@torch.no_grad()
def merge_adapter(network: NanoPi0, folder: Path) -> None:
    """Adds an adapter to a network's weights, in place.

    Args:
        network: With the weights that the adapter was trained on.
        folder: As ``peft``'s ``save_pretrained`` writes it.

    Raises:
        CheckpointError: If it is incomplete, of a kind that is not plain LoRA, or does not fit. The
            network is then unchanged.
    """
    scale_of_rank = _read_scale(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{WEIGHTS} is missing in {folder}")
    try:
        stored = load_file(path)
    except Exception as error:  # safetensors raises its own bare exceptions
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    weights = network.state_dict()
    merged: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith(".lora_B.weight"):
            continue
        replaced = not name.endswith(".lora_A.weight")
        target = our_name(name.removeprefix(_PREFIX).replace(".lora_A.weight", ".weight"))
        if target is None or target not in weights:
            raise CheckpointError(f"{path}: the network has no weight for {name}")
        old = weights[target]
        if replaced:
            new = tensor
        else:
            up = stored.get(name.replace(".lora_A.", ".lora_B."))
            if up is None:
                raise CheckpointError(f"{path}: {name} has no lora_B beside it")
            if up.shape[1:] != tensor.shape[:1]:
                raise CheckpointError(f"{path}: the ranks of lora_A and lora_B differ at {name}")
            new = old.float() + scale_of_rank(len(tensor)) * (up.float() @ tensor.float())
        if new.shape != old.shape:
            raise CheckpointError(
                f"{path}: {name} gives {tuple(new.shape)}, not {tuple(old.shape)}"
            )
        merged[target] = new
    if not merged:
        raise CheckpointError(f"{path} holds no adapter")
    for target, new in merged.items():
        weights[target].copy_(new)


def _read_scale(folder: Path) -> Callable[[int], float]:
    file = folder / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{CONFIG} is missing in {folder}") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from error
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{file} is of type {config.get('peft_type')!r}; valid: 'LORA'")
    for name, plain in _PLAIN.items():
        if config.get(name, plain) != plain:
            raise CheckpointError(
                f"{file}: {name} is {config[name]!r}; only {plain!r} is supported"
            )
    if config.get("alpha_pattern"):
        raise CheckpointError(f"{file}: an alpha_pattern is not supported")
    alpha = config.get("lora_alpha")
    if not isinstance(alpha, int | float):
        raise CheckpointError(f"{file}: lora_alpha is {alpha!r}; valid: a number")
    if config.get("use_rslora"):
        return lambda rank: alpha / math.sqrt(rank)
    return lambda rank: alpha / rank
