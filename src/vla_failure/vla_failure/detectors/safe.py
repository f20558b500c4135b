# SPDX-License-Identifier: Apache-2.0
"""SAFE (Gu et al., 2025, "SAFE: Multitask Failure Detection for Vision-Language-Action Models"),
and an LSTM that learns from its own later predictions.
"""  # noqa: D205

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..episodes import Episode, FailureDetectionError, Float32Array, Start, Step
from .base import Detector, View, check_positive, labels
from .networks import LstmCell, Perceptron, sigmoid

if TYPE_CHECKING:  # scoring does without torch
    from torch import Tensor

    from .training import Sequences


# Episodes per update; SAFE's 512 cost sixteen times as much.
BATCH = 32


@dataclass
class Probe(Detector):
    """A network over one vector per inference.

    Attributes:
        source: ``features``, or ``state`` for the robot's own.
        flow: Of features, see ``View``.
        horizon: Of features, see ``View``.
        standardise: Whether vectors are shifted and scaled to those of the training; SAFE does not.
        hidden: Width.
        learning_rate: Of Adam; SAFE tries 1e-5 to 3e-3.
        weight_decay: λ of λ‖W‖²; SAFE tries 1e-3 to 1.
        updates: Steps of Adam, each on ``BATCH`` episodes.
    """

    source: str = "features"
    flow: str = "mean"
    horizon: str = "mean"
    standardise: bool = False
    hidden: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    updates: int = 400

    def check(self) -> None:
        """See ``Detector.check``."""
        self._view = View(self.source, self.flow, self.horizon)
        check_positive(hidden=self.hidden, learning_rate=self.learning_rate, updates=self.updates)
        if not self.weight_decay >= 0.0:
            raise FailureDetectionError(f"weight_decay is {self.weight_decay}; valid: >= 0")

    def inputs(self, vectors: Float32Array) -> Float32Array:
        """Vectors (..., F) as the network reads them."""
        if not self.standardise:
            return vectors
        return (vectors - self.array("mean")) / self.array("spread")

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """See ``Detector.fit``."""
        from .training import Sequences

        failed = labels(episodes)
        vectors = [self._view.sequence(episode) for episode in episodes]
        every = np.concatenate(vectors)
        self.arrays = {}
        if self.standardise:
            spread = every.std(axis=0) + np.float32(1e-6)
            self.arrays = {"mean": every.mean(axis=0), "spread": spread}
        data = Sequences.pad([self.inputs(v) for v in vectors], failed)
        self.arrays |= self._train(data, seed)

    @abstractmethod
    def _train(self, data: Sequences, seed: int) -> dict[str, Float32Array]: ...


@dataclass
class SafeMlp(Probe):
    """SAFE-MLP: s_t = Σ σ(g(e_τ)) over the inferences so far, so 0 < s_t < t."""

    name: ClassVar[str] = "safe_mlp"

    def prepare(self) -> None:
        """See ``Detector.prepare``."""
        self.array("g.0.weight")
        self._network = Perceptron(self.arrays, "g")

    def begin(self, start: Start) -> None:
        """See ``Detector.begin``."""
        self._sum = 0.0

    def step(self, step: Step) -> float:
        """See ``Detector.step``."""
        self._sum += sigmoid(float(self._network(self.inputs(self._view.of(step)))[0]))
        return self._sum

    def _train(self, data: Sequences, seed: int) -> dict[str, Float32Array]:
        from .training import Mlp, cumulated_sigmoid_loss, minimise, seeded

        network = seeded(seed, lambda: Mlp(data.inputs.shape[-1], self.hidden, 1))

        def loss(rows: Tensor) -> Tensor:
            part = data.rows(rows)
            return cumulated_sigmoid_loss(network(part.inputs)[..., 0], part)

        weights = minimise(
            network,
            len(data.inputs),
            loss,
            updates=self.updates,
            batch=BATCH,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            seed=seed,
        )
        return {f"g.{name}": w for name, w in weights.items()}


@dataclass
class SafeLstm(Probe):
    """SAFE-LSTM: σ of an LSTM's logit, trained on the episode's outcome at every step."""

    name: ClassVar[str] = "safe_lstm"

    def prepare(self) -> None:
        """See ``Detector.prepare``."""
        self.array("lstm.weight_ih_l0")
        self._cell = LstmCell(self.arrays)
        self._read_out = Perceptron(self.arrays, "g")

    def begin(self, start: Start) -> None:
        """See ``Detector.begin``."""
        self._cell.begin()

    def step(self, step: Step) -> float:
        """See ``Detector.step``."""
        hidden = self._cell.step(self.inputs(self._view.of(step)))
        return sigmoid(float(self._read_out(hidden)[0]))

    def _train(self, data: Sequences, seed: int) -> dict[str, Float32Array]:
        from .training import LstmProbe, minimise, seeded

        network = seeded(seed, lambda: LstmProbe(data.inputs.shape[-1], self.hidden))

        def loss(rows: Tensor) -> Tensor:
            part = data.rows(rows)
            return self._loss(network(part.inputs), part)

        weights = minimise(
            network,
            len(data.inputs),
            loss,
            updates=self.updates,
            batch=BATCH,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            seed=seed,
        )
        return {(n if n.startswith("lstm.") else f"g.{n}"): w for n, w in weights.items()}

    def _loss(self, logits: Tensor, part: Sequences) -> Tensor:
        from .training import outcome_loss

        return outcome_loss(logits, part)


@dataclass
class TdLstm(SafeLstm):
    """The same network, trained on temporal differences.

    The outcome says little about the first steps of an episode that went wrong late. Here a step's
    target is what the network predicts afterwards, mixed with the outcome (TD(λ), after TDQC).

    Attributes:
        trace: λ; 1 is ``SafeLstm``.
    """

    name: ClassVar[str] = "td_lstm"
    trace: float = 0.8

    def check(self) -> None:
        """See ``Detector.check``."""
        super().check()
        if not 0.0 <= self.trace <= 1.0:
            raise FailureDetectionError(f"trace is {self.trace}; valid: 0 to 1")

    def _loss(self, logits: Tensor, part: Sequences) -> Tensor:
        from .training import temporal_difference_loss

        return temporal_difference_loss(logits, part, self.trace)


@dataclass
class Proprioception(SafeLstm):
    """Control: the same network on the robot's own state, which knows nothing of the policy."""

    name: ClassVar[str] = "proprioception"
    source: str = "state"
    standardise: bool = True
