# SPDX-License-Identifier: Apache-2.0
"""Weights and tokenizer that both sides of the comparison with LeRobot make for themselves."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

_WORDS = ("the", "pick", "up", "red", "cube", "open", "drawer", "then", "press", "button")


def weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name in LeRobot's layout alone."""
    # The language model's output layer is tied to its input.
    name = name.replace("paligemma.lm_head", "paligemma.model.language_model.embed_tokens")
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape, dtype=np.float32)
    fan_in = shape[-1] if len(shape) > 1 else 16
    return torch.from_numpy(values * np.float32(fan_in**-0.5))


def write_tokenizer(folder: Path) -> None:
    """Writes a tokenizer of PaliGemma's kind with a small vocabulary: BPE with byte fallback."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    merges: list[tuple[str, str]] = []
    letters = sorted({letter for word in _WORDS for letter in word} | {"\u2581", "\n"})
    pieces += letters
    for word in _WORDS:
        spelled = "\u2581" + word
        for end in range(2, len(spelled) + 1):
            merge = (spelled[: end - 1], spelled[end - 1])
            if merge not in merges:
                merges.append(merge)
                pieces.append(spelled[:end])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
