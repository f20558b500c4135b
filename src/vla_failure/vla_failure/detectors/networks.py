# SPDX-License-Identifier: Apache-2.0
"""Small networks in NumPy: fitted with torch elsewhere, evaluated here without."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..episodes import Float32Array

# σ of a larger logit would be one in double precision.
_LOGIT = 30.0
_HALF = np.float32(0.5)

Weights = Mapping[str, Float32Array]


def sigmoid(logit: float) -> float:
    """Logistic function, strictly between 0 and 1."""
    return 1.0 / (1.0 + math.exp(-min(_LOGIT, max(-_LOGIT, logit))))


def perceptron(weights: Weights, prefix: str, inputs: Float32Array) -> Float32Array:
    """Layers ``<prefix>.<i>.weight`` and ``.bias`` with ReLU between them, on one vector (F,)."""
    hidden, layer = inputs, 0
    while f"{prefix}.{layer}.weight" in weights:
        if layer > 0:
            hidden = np.maximum(hidden, np.float32(0.0))
        hidden = weights[f"{prefix}.{layer}.weight"] @ hidden + weights[f"{prefix}.{layer}.bias"]
        layer += 1
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

    def step(self, inputs: Float32Array) -> Float32Array:
        """Next hidden state (H,)."""
        n = self._width
        self._both[:-n] = inputs
        gates = np.tanh(self._weights @ self._both + self._bias)
        opened = _HALF * gates + _HALF
        self._cell = opened[n : 2 * n] * self._cell + opened[:n] * gates[2 * n : 3 * n]
        hidden: Float32Array = opened[3 * n :] * np.tanh(self._cell)
        self._both[-n:] = hidden
        return hidden
