# SPDX-License-Identifier: Apache-2.0
"""What a full-size π0 sees: images fitted into a square, an instruction in PaliGemma's tokens.

As openpi and LeRobot do it: bilinear resizing that keeps the aspect ratio, black bars on either
side, values in [-1, 1]; a camera that is missing is an image of -1 that nothing attends to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from ..instruction import check_instruction
from ..types import CheckpointError

PAD = "<pad>"


def fit_images(images: Sequence[Tensor], size: int) -> Tensor:
    """Fits images into squares without distortion.

    Args:
        images: n of them, each (H, W, 3) uint8; where they are is where the result is.
        size: Height and width of the squares.

    Returns:
        (n, 3, size, size) float32 in [-1, 1].
    """
    squares = torch.full((len(images), 3, size, size), -1.0, device=images[0].device)
    for image, square in zip(images, squares, strict=True):
        values = image[None].permute(0, 3, 1, 2).float()
        ratio = max(values.shape[2] / size, values.shape[3] / size)
        height, width = (int(length / ratio) for length in values.shape[2:])
        if (height, width) != values.shape[2:]:
            values = functional.interpolate(
                values, size=(height, width), mode="bilinear", align_corners=False
            )
        top, left = (size - height) // 2, (size - width) // 2
        inner = square[:, top : top + height, left : left + width]
        # Scaled only now that there are fewer of them.
        torch.mul(values[0], 2.0 / 255.0, out=inner).sub_(1.0)
    return squares


class PaligemmaTokenizer:
    """Turns an instruction into ids of fixed length: ``<bos>`` instruction, newline, padding.

    Args:
        folder: With PaliGemma's ``tokenizer.json``.
        length: Number of ids.

    Raises:
        CheckpointError: If the tokenizer is missing or is none.
    """

    def __init__(self, folder: Path, length: int) -> None:
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(f"tokenizer.json is missing in {folder}; it is PaliGemma's")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{path} is not a tokenizer: {error}") from error
        pad = self._tokenizer.token_to_id(PAD)
        if pad is None:
            raise CheckpointError(f"{path} lacks the special token {PAD}")
        self._length = length
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(length=length, pad_id=pad, pad_token=PAD)

    def encode(self, instruction: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Ids (length,) and their validity (length,) of an instruction.

        Raises:
            ValueError: If the instruction is empty or has more tokens. LeRobot cuts it off; cut off
                behind a "not", it would mean something else.
        """
        check_instruction(instruction)
        line = instruction if instruction.endswith("\n") else instruction + "\n"
        encoding = self._tokenizer.encode(line)
        if encoding.overflowing:
            raise ValueError(
                f"the instruction {instruction!r} is too long: this policy reads {self._length} "
                "tokens"
            )
        return (
            np.asarray(encoding.ids, dtype=np.int64),
            np.asarray(encoding.attention_mask, dtype=np.bool_),
        )
