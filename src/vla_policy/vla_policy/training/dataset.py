# SPDX-License-Identifier: Apache-2.0
"""Training data as tensors, with images in a memory-mapped file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..statistics import Statistics


class ImageStore:
    """Images of several memory-mapped files behind one index.

    Args:
        parts: Arrays (n_i, cameras, size, size, 3) uint8.
    """

    def __init__(self, parts: Sequence[npt.NDArray[np.uint8]]) -> None:
        self.parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(B, cameras, size, size, 3) images."""
        part = np.searchsorted(self._ends, indices, side="right")
        offset = indices - np.concatenate([[0], self._ends])[part]
        rows = [self.parts[p][o] for p, o in zip(part, offset, strict=True)]
        return np.stack(rows)


@dataclass(frozen=True)
class TrainingData:
    """Samples ready for training; N of them.

    Attributes:
        images: Of N samples, usually memory-mapped.
        state: (N, S) normalised, float32.
        is_velocity: (S,) true where an entry of the state is a joint velocity.
        actions: (N, H, A) normalised, float32.
        actions_valid: (N, H) 1 where a step counts, 0 beyond the end of an episode.
        token_table: (U, T) ids of all instructions in use.
        token_valid: (U, T).
        choices: (N, P) rows of the table that say the same; the first is the recorded one.
        positions: (N, 3·len(position_names)) auxiliary targets divided by ``position_scale``.
        positions_valid: (N, …) 1 where known, else 0.
        patches: (N, cameras, C) patch that shows each of C objects, -1 for hidden; the last two
            are those that the words name.
        position_names: What the targets are, in threes.
        position_scale: m per unit.
        statistics: Of the training split.
        train: Indices of the training split.
        validation: Indices of held-out episodes.
    """

    images: ImageStore
    state: Tensor
    is_velocity: Tensor
    actions: Tensor
    actions_valid: Tensor
    token_table: Tensor
    token_valid: Tensor
    choices: Tensor
    positions: Tensor
    positions_valid: Tensor
    patches: Tensor
    position_names: tuple[str, ...]
    position_scale: float
    statistics: Statistics
    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]

    def train_indices(self, position: int, count: int, seed: int) -> npt.NDArray[np.int64]:
        """The samples at ``position`` of an endless sequence of shuffled epochs.

        The order is a function of position and seed alone, so a resumed training continues
        exactly.
        """
        size = len(self.train)
        chosen: list[npt.NDArray[np.int64]] = []
        while count > 0:
            epoch, offset = divmod(position, size)
            order = self._epoch_order(epoch, seed)
            part = order[offset : offset + count]
            chosen.append(self.train[part])
            position += len(part)
            count -= len(part)
        return np.concatenate(chosen)

    def _epoch_order(self, epoch: int, seed: int) -> npt.NDArray[np.int64]:
        cached: tuple[Any, npt.NDArray[np.int64]] | None = self.__dict__.get("_order")
        if cached is not None and cached[0] == (epoch, seed):
            return cached[1]
        order = np.random.default_rng((seed, epoch)).permutation(len(self.train))
        self.__dict__["_order"] = ((epoch, seed), order)
        return order

    def read_images(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(B, cameras, size, size, 3) uint8 RGB images of some samples."""
        return self.images.read(indices)

    def instruction_tokens(
        self, indices: npt.NDArray[np.int64], choice: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Token ids and validity (B, T); ``choice`` in [0, 1) picks the paraphrase."""
        options = self.choices[indices]
        column = (choice * options.shape[1]).long()
        rows = options[torch.arange(len(options)), column]
        return self.token_table[rows], self.token_valid[rows]
