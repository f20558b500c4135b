# SPDX-License-Identifier: Apache-2.0
"""Fitting the networks of detectors. The one module of them that needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ..episodes import Float32Array, FloatArray

# Rows per update.
BATCH = 512


@dataclass(frozen=True)
class Sequences:
    """Padded sequences.

    Attributes:
        inputs: (N, T, F).
        valid: (N, T), 1 where there is an inference, 0 behind the end.
        failed: (N,), 1 for failures.
        weights: (N,) of the classes.
    """

    inputs: Tensor
    valid: Tensor
    failed: Tensor
    weights: Tensor

    @staticmethod
    def pad(sequences: Sequence[Float32Array], failed: FloatArray) -> Sequences:
        """Pads sequences (T_i, F) and weighs classes by N / (n + 1), n being the class's size."""
        longest = max(len(sequence) for sequence in sequences)
        inputs = torch.zeros(len(sequences), longest, sequences[0].shape[1])
        valid = torch.zeros(len(sequences), longest)
        for row, sequence in enumerate(sequences):
            inputs[row, : len(sequence)] = torch.from_numpy(sequence)
            valid[row, : len(sequence)] = 1.0
        sizes = np.array([np.sum(failed == 0), np.sum(failed == 1)])
        weights = len(failed) / (sizes + 1.0)
        return Sequences(
            inputs,
            valid,
            torch.from_numpy(failed).float(),
            torch.from_numpy(weights[failed.astype(int)]).float(),
        )

    def rows(self, chosen: Tensor) -> Sequences:
        """Some of them."""
        return Sequences(
            self.inputs[chosen], self.valid[chosen], self.failed[chosen], self.weights[chosen]
        )

    def mean(self, losses: Tensor) -> Tensor:
        """Weighted mean over sequences of the mean of losses (N, T) over valid steps."""
        single = (losses * self.valid).sum(dim=1) / self.valid.sum(dim=1)
        return (self.weights * single).mean()


class Mlp(nn.Module):
    """Linear layers with ReLU between them; see ``networks.perceptron``."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., F) to (..., O)."""
        hidden = inputs
        for index, layer in enumerate(self.layers):
            hidden = layer(torch.relu(hidden) if index else hidden)
        return hidden


class LstmProbe(nn.Module):
    """One LSTM layer and a linear read-out of its hidden state."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True)
        self.layers = nn.ModuleList([nn.Linear(hidden, 1)])

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, T) of sequences (N, T, F)."""
        hidden, _ = self.lstm(inputs)
        logits: Tensor = self.layers[0](hidden)[..., 0]
        return logits


def minimise(
    module: nn.Module,
    rows: int,
    loss: Callable[[Tensor], Tensor],
    *,
    updates: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    seed: int = 0,
    batch: int = BATCH,
) -> dict[str, Float32Array]:
    """Adam on minibatches, with λ‖W‖² on weights (not biases) as in SAFE.

    Args:
        module: To be fitted.
        rows: Of the data.
        loss: Of some rows, given by their indices.
        updates: Steps of Adam: what a fit costs does not grow with the data.
        learning_rate: Of Adam.
        weight_decay: λ.
        seed: Of the order.
        batch: Rows per update.

    Returns:
        Its weights by name.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = [p for name, p in module.named_parameters() if "bias" not in name]
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    for chosen in islice(_batches(rows, batch, generator), updates):
        total = loss(chosen)
        if weight_decay > 0.0:
            total = total + weight_decay * sum((w.square().sum() for w in weights), total * 0.0)
        optimizer.zero_grad()
        torch.autograd.backward(total)
        optimizer.step()
    return {
        name.removeprefix("layers."): w.detach().numpy().astype(np.float32)
        for name, w in module.named_parameters()
    }


def _batches(rows: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices, pass by pass in another order, without end."""
    while True:
        yield from torch.split(torch.randperm(rows, generator=generator), batch)


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A module whose weights depend on a seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def cumulated_sigmoid_loss(logits: Tensor, part: Sequences) -> Tensor:
    """SAFE-MLP's: t − s_t for failures and s_t for successes, s_t the sum of σ so far."""
    scores = torch.sigmoid(logits).cumsum(dim=1)
    time = torch.arange(1, logits.shape[1] + 1)
    failed = part.failed[:, None]
    return part.mean(failed * (time - scores) + (1.0 - failed) * scores)


def outcome_loss(logits: Tensor, part: Sequences) -> Tensor:
    """SAFE-LSTM's: cross-entropy with the episode's outcome at every step."""
    wanted = part.failed[:, None].expand_as(logits)
    return part.mean(cross_entropy(logits, wanted))


def temporal_difference_loss(logits: Tensor, part: Sequences, trace: float) -> Tensor:
    """Cross-entropy with TD(λ) targets: the prediction one step later, the outcome at the end."""
    targets = lambda_returns(torch.sigmoid(logits).detach(), part.valid, part.failed, trace)
    return part.mean(cross_entropy(logits, targets))


def lambda_returns(values: Tensor, valid: Tensor, outcomes: Tensor, trace: float) -> Tensor:
    """TD(λ) targets (N, T) without discount (Sutton, Barto, 2018, §12.1).

    The only reward is the outcome, at the last valid step.

    Args:
        values: (N, T) predictions.
        valid: (N, T).
        outcomes: (N,).
        trace: λ; 1 gives the outcome everywhere, 0 the next prediction.
    """
    targets = torch.empty_like(values)
    later = outcomes
    for t in range(values.shape[1] - 1, -1, -1):
        if t + 1 < values.shape[1]:
            last = valid[:, t + 1] == 0.0
            ahead = (1.0 - trace) * values[:, t + 1] + trace * later
            later = torch.where(last, outcomes, ahead)
        targets[:, t] = later
    return targets


def cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    """Binary, of every entry."""
    return nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
