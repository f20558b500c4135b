# SPDX-License-Identifier: Apache-2.0
"""Small networks in NumPy: fitted with torch elsewhere, evaluated here without."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..episodes import Float32Array

# σ of a larger logit would be one in double precision.
_LOGIT = 30.0

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
        self._inputs = weights["lstm.weight_ih_l0"]
        self._recurrent = weights["lstm.weight_hh_l0"]
        self._bias = weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]
        self._width = self._recurrent.shape[1]
        self._hidden = np.zeros(self._width, np.float32)
        self._cell = np.zeros(self._width, np.float32)

    def step(self, inputs: Float32Array) -> Float32Array:
        """Next hidden state (H,)."""
        n = self._width
        gates = self._inputs @ inputs + self._recurrent @ self._hidden + self._bias
        # tanh does not overflow: σ(x) = (1 + tanh(x / 2)) / 2.
        opened = np.float32(0.5) * (np.float32(1.0) + np.tanh(np.float32(0.5) * gates))
        self._cell = opened[n : 2 * n] * self._cell + opened[:n] * np.tanh(gates[2 * n : 3 * n])
        self._hidden = opened[3 * n :] * np.tanh(self._cell)
        return self._hidden
