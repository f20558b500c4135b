# SPDX-License-Identifier: Apache-2.0
"""Folders with a π0 of reduced width, as LeRobot and as transformers write them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PI0ForConditionalGeneration

from vla_policy.nano_pi0 import NanoPi0
from vla_policy.pi0 import layout as pi0_layout

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
from pi0_weights import weight, write_tokenizer  # noqa: E402

SIZE, TEXT, HORIZON = 28, 12, 6
TOLERANCE = 1e-4


def read_golden() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What went into LeRobot's policy and came out of it, and what it was."""
    with safe_open(GOLDEN / "pi0.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["description"])


def use_small_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    """The widths that the golden values were made with."""
    monkeypatch.setitem(pi0_layout.GEMMA, "gemma_2b", (32, 64, 2, 8, 1, 16))
    monkeypatch.setitem(pi0_layout.GEMMA, "gemma_300m", (24, 48, 2, 8, 1, 16))
    monkeypatch.setattr(pi0_layout, "SIGLIP", (48, 4304, 2, 3, 14))


def lerobot_folder(folder: Path, description: dict[str, Any], *, change: Any = None) -> Path:
    """A folder as LeRobot writes it, with weights that follow from their names."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "type": "pi0",
        "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m",
        "image_resolution": [SIZE, SIZE],
        "tokenizer_max_length": TEXT,
        "chunk_size": HORIZON,
        "max_state_dim": 32,
        "max_action_dim": 32,
        "num_inference_steps": 10,
        "input_features": {
            **{
                f"observation.images.{name}": {"type": "VISUAL", "shape": [3, SIZE, SIZE]}
                for name in description["cameras"]
            },
            "observation.state": {"type": "STATE", "shape": [9]},
        },
        "output_features": {"action": {"type": "ACTION", "shape": [7]}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    weights = {name: weight(name, tuple(shape)) for name, shape in description["weights"].items()}
    if change is not None:
        change(weights)
    save_file(weights, folder / "model.safetensors")
    write_tokenizer(folder)
    return folder


def write_as_transformers(network: NanoPi0, folder: Path) -> None:
    """The same network as transformers writes it, in shards."""
    model = PI0ForConditionalGeneration(network.config.hugging_face())
    # The network has left the expert's words out.
    model.load_state_dict({**model.state_dict(), **network.pi0.state_dict()})
    model.save_pretrained(folder, max_shard_size="2MB")
    write_tokenizer(folder)
