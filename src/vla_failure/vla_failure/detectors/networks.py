# SPDX-License-Identifier: Apache-2.0
"""Small networks in NumPy: fitted with torch elsewhere, evaluated here without."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..episodes import Float32Array

# σ of a larger logit would be one in double precision.
_LOGIT = 30.0
_ZERO, _HALF = np.float32(0.0), np.float32(0.5)

Weights = Mapping[str, Float32Array]


def sigmoid(logit: float) -> float:
    """Logistic function, strictly between 0 and 1."""
    return 1.0 / (1.0 + math.exp(-min(_LOGIT, max(-_LOGIT, logit))))


class Perceptron:
    """Linear layers with ReLU between them.

    Args:
        weights: ``<prefix>.<i>.weight`` and ``.bias`` of layer i.
        prefix: Of their names.
    """

    def __init__(self, weights: Weights, prefix: str) -> None:
        self._layers: list[tuple[Float32Array, Float32Array]] = []
        while (name := f"{prefix}.{len(self._layers)}") + ".weight" in weights:
            self._layers.append((weights[f"{name}.weight"].T, weights[f"{name}.bias"]))

    def __call__(self, inputs: Float32Array) -> Float32Array:
        """(..., F) to (..., O)."""
        hidden = inputs
        for index, (weight, bias) in enumerate(self._layers):
            if index > 0:
                hidden = np.maximum(hidden, _ZERO)
            hidden = np.dot(hidden, weight)
            hidden += bias
        return hidden


class LstmCell:
    """One layer of an LSTM with torch's names and order of gates (input, forget, cell, output).

    Args:
        weights: ``lstm.weight_ih_l0`` and so on.
    """

    def __init__(self, weights: Weights) -> None:
        inputs, recurrent = weights["lstm.weight_ih_l0"], weights["lstm.weight_hh_l0"]
        self._width = n = recurrent.shape[1]
        # One product for both, and one tanh for all gates: σ(x) = (1 + tanh(x / 2)) / 2.
        halves = np.full((4 * n, 1), 0.5, np.float32)
        halves[2 * n : 3 * n] = 1.0
        self._weights = halves * np.concatenate([inputs, recurrent], axis=1)
        self._bias = halves[:, 0] * (weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"])
        self._both = np.zeros(self._weights.shape[1], np.float32)
        self._cell = np.zeros(n, np.float32)

    def begin(self) -> None:
        """Forgets the sequence before."""
        self._both[:] = 0.0
        self._cell[:] = 0.0

    def step(self, inputs: Float32Array) -> Float32Array:
        """Next hidden state (H,)."""
        n = self._width
        self._both[:-n] = inputs
        gates = np.dot(self._weights, self._both)
        gates += self._bias
        np.tanh(gates, out=gates)
        opened = gates * _HALF
        opened += _HALF
        self._cell *= opened[n : 2 * n]
        self._cell += opened[:n] * gates[2 * n : 3 * n]
        hidden: Float32Array = np.tanh(self._cell)
        hidden *= opened[3 * n :]
        self._both[-n:] = hidden
        return hidden
