# SPDX-License-Identifier: Apache-2.0
"""Folders with π0 weights as others publish them: LeRobot's layout and transformers'.

LeRobot's (``lerobot/pi0_base`` and what is fine-tuned from it) has ``config.json`` with
``"type": "pi0"`` and names as in openpi's PyTorch code; transformers' has ``config.json`` with
``"model_type": "pi0"``. Either holds ``model.safetensors`` or shards with an index. Nothing is
downloaded, nothing is unpickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import GemmaConfig, PI0Config

from ..nano_pi0 import NanoPi0, NanoPi0Config
from ..types import CheckpointError

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
CAMERA = "observation.images."

# Widths that LeRobot's configuration names: width, hidden width of the MLPs, layers, query heads,
# key and value heads, width of a head (openpi, ``gemma.py``).
GEMMA: dict[str, tuple[int, int, int, int, int, int]] = {
    "gemma_300m": (1024, 4096, 18, 8, 1, 256),
    "gemma_2b": (2048, 16384, 18, 8, 1, 256),
}
# SigLIP So400m/14: width, hidden width of the MLPs, layers, heads, patch.
SIGLIP = (1152, 4304, 27, 16, 14)
VOCABULARY = 257152  # PaliGemma's; the image token comes right behind it
TEXT_TOKENS = 48

# Names in either layout, in order of application.
_RENAMES = (
    (r"^model\.paligemma_with_expert\.", "paligemma_with_expert."),
    (r"^paligemma_with_expert\.paligemma\.model\.", "model.vlm."),
    (r"^paligemma_with_expert\.gemma_expert\.model\.", "model.dit."),
    (r"^paligemma_with_expert\.paligemma\.lm_head\.", "model.vlm.language_model.embed_tokens."),
    (
        r"^(model\.)?(state_proj|action_in_proj|action_time_mlp_(in|out))\.",
        r"embed_action_time.\2.",
    ),
    (r"^model\.action_out_proj\.", "action_out_proj."),
    (r"^(model\.vlm\.vision_tower\.)vision_model\.", r"\1"),
    (r"^(model\.vlm\.language_model\.)model\.", r"\1"),
)
# The expert reads and writes no words.
_UNUSED = re.compile(r"(gemma_expert\.lm_head|model\.dit\.embed_tokens)\.|rotary_emb\.inv_freq$")


@dataclass(frozen=True)
class Pi0Folder:
    """What a folder with π0 weights says of itself.

    Attributes:
        path: The folder.
        shape: Of the network.
        cameras: Names of the cameras in the network's order; empty where it does not name them.
        state_dim: Length of the robot's state before padding; 0 where it does not say.
        action_dim: Length of an action before padding; 0 where it does not say.
    """

    path: Path
    shape: NanoPi0Config
    cameras: tuple[str, ...]
    state_dim: int
    action_dim: int


def read_folder(path: Path, *, cameras: int = 3) -> Pi0Folder:
    """Reads a folder's ``config.json``.

    Args:
        path: Folder of either layout.
        cameras: Cameras of the network, where the configuration does not say.

    Raises:
        CheckpointError: If it is missing or describes something else than a π0.
    """
    file = path / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{CONFIG} is missing in {path}") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from error
    try:
        if config.get("type") == "pi0":
            return _of_lerobot(path, config)
        if config.get("model_type") == "pi0":
            return Pi0Folder(path, _shape_of_transformers(config, cameras), (), 0, 0)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read as a π0's: {error!r}") from error
    raise CheckpointError(
        f"{file} is of type {config.get('type', config.get('model_type'))!r}; "
        "valid: a 'type' (LeRobot) or 'model_type' (transformers) of 'pi0'"
    )


def load_network(folder: Pi0Folder, *, dtype: torch.dtype = torch.float32) -> NanoPi0:
    """Builds the network and loads every weight.

    Args:
        folder: As read by ``read_folder``.
        dtype: Of the weights in memory.

    Raises:
        CheckpointError: Naming weights that are missing, unexpected or of another shape.
    """
    network = NanoPi0(folder.shape, initialise=False, dtype=dtype)
    network.pi0.model.dit.embed_tokens = None
    wanted = network.state_dict()
    missing = set(wanted)
    unexpected = []
    for name, tensor in _weights(folder.path):
        ours = our_name(name)
        if ours is None:
            continue
        if ours not in wanted:
            unexpected.append(name)
            continue
        target = wanted[ours]
        if tensor.shape != target.shape:
            raise CheckpointError(
                f"{folder.path}: {name} is {tuple(tensor.shape)}, not {tuple(target.shape)}"
            )
        with torch.no_grad():
            target.copy_(tensor)
        missing.discard(ours)
    if missing or unexpected:
        raise CheckpointError(
            f"{folder.path}: missing weights {sorted(missing)}, "
            f"unexpected weights {sorted(unexpected)}"
        )
    return network


def our_name(name: str) -> str | None:
    """Name of a published weight in ``NanoPi0``; None for one that has no use."""
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return None if _UNUSED.search(name) else "pi0." + name


def weight_files(folder: Path) -> list[Path]:
    """The shards of a folder, or its one file.

    Raises:
        CheckpointError: If one is missing or lies elsewhere, or the index cannot be read.
    """
    index = folder / INDEX
    if index.is_file():
        try:
            placed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            shards = sorted(set(placed.values()))
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{index} cannot be read: {error!r}") from error
    else:
        shards = [WEIGHTS]
    paths = [folder / shard for shard in shards]
    for path in paths:
        if path.parent != folder or not path.is_file():
            raise CheckpointError(f"{path.relative_to(folder)} is missing in {folder}")
    return paths


def _weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of all shards, one at a time."""
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a dictionary)
                    yield name, file.get_tensor(name)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error


def _of_lerobot(path: Path, config: dict[str, Any]) -> Pi0Folder:
    language = _gemma(config["paligemma_variant"])
    expert = _gemma(config["action_expert_variant"])
    height, width = config["image_resolution"]
    if height != width:
        raise ValueError(f"image_resolution is {height} x {width}; valid: a square")
    features = config.get("input_features") or {}
    cameras = tuple(name.removeprefix(CAMERA) for name in features if name.startswith(CAMERA))
    # LeRobot adds them to the features by itself, so that a saved configuration may have them.
    empty = (f"empty_camera_{i}" for i in range(config.get("empty_cameras", 0)))
    cameras += tuple(name for name in empty if name not in cameras)
    shape = _shape(
        language,
        expert,
        SIGLIP,
        vocabulary=VOCABULARY,
        image_size=height,
        text_tokens=config["tokenizer_max_length"],
        cameras=len(cameras) or 3,
        horizon=config["chunk_size"],
        state_dim=config["max_state_dim"],
        action_dim=config["max_action_dim"],
        flow_steps=config["num_inference_steps"],
    )
    state = features.get("observation.state", {}).get("shape", [0])
    action = (config.get("output_features") or {}).get("action", {}).get("shape", [0])
    return Pi0Folder(path, shape, cameras, int(state[0]), int(action[0]))


def _shape_of_transformers(config: dict[str, Any], cameras: int) -> NanoPi0Config:
    """From ``PI0Config``'s dictionary, whose missing entries are transformers' defaults."""
    full = PI0Config(**{name: value for name, value in config.items() if name != "model_type"})
    text, vision = full.vlm_config.text_config, full.vlm_config.vision_config
    return _shape(
        _gemma_of(text),
        _gemma_of(full.dit_config),
        (
            vision.hidden_size,
            vision.intermediate_size,
            vision.num_hidden_layers,
            vision.num_attention_heads,
            vision.patch_size,
        ),
        vocabulary=text.vocab_size,
        image_size=vision.image_size,
        text_tokens=TEXT_TOKENS,
        cameras=cameras,
        horizon=full.chunk_size,
        state_dim=full.max_state_dim,
        action_dim=full.max_action_dim,
        flow_steps=full.num_inference_steps,
    )


def full_size() -> NanoPi0Config:
    """π0 as it was published, with three cameras."""
    return _shape(
        GEMMA["gemma_2b"],
        GEMMA["gemma_300m"],
        SIGLIP,
        vocabulary=VOCABULARY,
        image_size=224,
        text_tokens=TEXT_TOKENS,
        cameras=3,
        horizon=50,
        state_dim=32,
        action_dim=32,
        flow_steps=10,
    )


def _gemma(variant: str) -> tuple[int, int, int, int, int, int]:
    if variant not in GEMMA:
        raise ValueError(f"unknown variant {variant!r}; valid: {', '.join(GEMMA)}")
    return GEMMA[variant]


def _gemma_of(config: GemmaConfig) -> tuple[int, int, int, int, int, int]:
    return (
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
    )


def _shape(
    language: tuple[int, int, int, int, int, int],
    expert: tuple[int, int, int, int, int, int],
    vision: tuple[int, int, int, int, int],
    *,
    vocabulary: int,
    **sizes: int,
) -> NanoPi0Config:
    if language[2:] != expert[2:]:
        raise ValueError(
            "language model and expert must have equal layers, heads and head widths; they have "
            f"{language[2:]} and {expert[2:]}"
        )
    return NanoPi0Config(
        vocab_size=vocabulary,
        image_token_id=vocabulary,
        patch_size=vision[4],
        vision_width=vision[0],
        vision_layers=vision[2],
        vision_mlp=vision[1],
        vision_heads=vision[3],
        language_width=language[0],
        language_mlp=language[1],
        expert_width=expert[0],
        expert_mlp=expert[1],
        layers=language[2],
        heads=language[3],
        kv_heads=language[4],
        head_dim=language[5],
        **sizes,
    )
