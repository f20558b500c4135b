# SPDX-License-Identifier: Apache-2.0
"""Networks that know what successes look like: random network distillation, and a flow to noise.

Both after FAIL-Detect (Xu et al., 2025), with a network for failures taken off as in SAFE (Gu et
al., 2025); with perceptrons in place of their convolutions over time.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..episodes import Episode, Float32Array, Step
from .base import SignalDetector, View, check_positive, labels
from .networks import Perceptron

if TYPE_CHECKING:  # scoring does without torch
    from torch import Tensor

SUCCESS, FAILURE = "success", "failure"


@dataclass
class Novelty(SignalDetector):
    """How strange an inference is to a network that saw successes, less to one of failures.

    Attributes:
        accumulate: See ``SignalDetector``.
        flow: Of features, see ``View``.
        horizon: Of features, see ``View``.
        contrast: Whether the strangeness to the network of failures is taken off.
        hidden: Width.
        learning_rate: Of Adam.
        updates: Steps of Adam.
    """

    flow: str = "mean"
    horizon: str = "mean"
    contrast: bool = True
    hidden: int = 256
    learning_rate: float = 1e-3
    updates: int = 500

    def check(self) -> None:
        """See ``Detector.check``."""
        super().check()
        self._view = View("features", self.flow, self.horizon)
        check_positive(hidden=self.hidden, learning_rate=self.learning_rate, updates=self.updates)

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """See ``Detector.fit``."""
        failed = labels(episodes)
        vectors = [self._vectors(episode) for episode in episodes]
        good = np.concatenate([v for v, f in zip(vectors, failed, strict=True) if not f])
        bad = np.concatenate([v for v, f in zip(vectors, failed, strict=True) if f])
        self.arrays = {
            "mean": good.mean(axis=0),
            "spread": good.std(axis=0) + np.float32(1e-6),
        }
        self._prepare(good.shape[1], seed)
        for group, rows in ((SUCCESS, good), (FAILURE, bad)):
            trained = self._train(self._standardised(rows), seed)
            self.arrays |= {f"{group}.{name}": array for name, array in trained.items()}

    def prepare(self) -> None:
        """See ``Detector.prepare``."""
        self.array("mean")
        self._networks = {group: Perceptron(self.arrays, group) for group in (SUCCESS, FAILURE)}

    def signal(self, step: Step) -> float:
        """See ``SignalDetector.signal``."""
        vector = self._standardised(self._vector(step))
        strange = self._strangeness(SUCCESS, vector)
        return strange - self._strangeness(FAILURE, vector) if self.contrast else strange

    def _standardised(self, vectors: Float32Array) -> Float32Array:
        return (vectors - self.array("mean")) / self.array("spread")

    def _vectors(self, episode: Episode) -> Float32Array:
        """Vectors (T, F) of an episode."""
        return self._view.sequence(episode)

    def _vector(self, step: Step) -> Float32Array:
        return self._view.of(step)

    def _prepare(self, width: int, seed: int) -> None:
        """Makes what both networks share."""

    @abstractmethod
    def _train(self, rows: Float32Array, seed: int) -> dict[str, Float32Array]:
        """Weights of a network that has seen vectors (n, F)."""

    @abstractmethod
    def _strangeness(self, group: str, vector: Float32Array) -> float:
        """How strange a vector is to the network of a group."""


@dataclass
class RandomNetworkDistillation(Novelty):
    """Error of a network that has learned another, random one on features and chunks.

    (Burda et al., 2018, "Exploration by Random Network Distillation".)

    Attributes:
        outputs: Of both networks.
    """

    name: ClassVar[str] = "rnd"
    outputs: int = 64

    def check(self) -> None:
        """See ``Detector.check``."""
        super().check()
        check_positive(outputs=self.outputs)

    def _vectors(self, episode: Episode) -> Float32Array:
        chunks = episode.chunks.reshape(len(episode), -1)
        return np.concatenate([self._view.sequence(episode), chunks], axis=1)

    def _vector(self, step: Step) -> Float32Array:
        return np.concatenate([self._view.of(step), step.chunk.reshape(-1)])

    def _prepare(self, width: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        for layer, (inputs, outputs) in enumerate(
            ((width, self.hidden), (self.hidden, self.outputs))
        ):
            weight = rng.normal(0.0, np.sqrt(2.0 / inputs), (outputs, inputs))
            bias = rng.normal(0.0, 0.1, outputs)
            self.arrays |= {
                f"target.{layer}.weight": weight.astype(np.float32),
                f"target.{layer}.bias": bias.astype(np.float32),
            }

    def prepare(self) -> None:
        """See ``Detector.prepare``."""
        super().prepare()
        self._target = Perceptron(self.arrays, "target")

    def _train(self, rows: Float32Array, seed: int) -> dict[str, Float32Array]:
        import torch

        from .training import Mlp, minimise, seeded

        wanted = Perceptron(self.arrays, "target")(rows)
        inputs, targets = torch.from_numpy(rows), torch.from_numpy(wanted)
        network = seeded(seed, lambda: Mlp(rows.shape[1], self.hidden, self.hidden, self.outputs))

        def loss(chosen: Tensor) -> Tensor:
            error: Tensor = (network(inputs[chosen]) - targets[chosen]).square().mean()
            return error

        return minimise(
            network,
            len(rows),
            loss,
            updates=self.updates,
            learning_rate=self.learning_rate,
            seed=seed,
        )

    def _strangeness(self, group: str, vector: Float32Array) -> float:
        error = self._networks[group](vector) - self._target(vector)
        return math.sqrt(error @ error)


@dataclass
class LogpZo(Novelty):
    """‖z‖² of the noise z to which a flow takes the features in one step.

    A flow from data at t = 0 to noise at t = 1 is learned by flow matching; z = x + v(x, 0). What
    the flow has not seen does not land where noise is.
    """

    name: ClassVar[str] = "logpzo"

    def _train(self, rows: Float32Array, seed: int) -> dict[str, Float32Array]:
        import torch

        from .training import Mlp, minimise, seeded

        data, width = torch.from_numpy(rows), rows.shape[1]
        network = seeded(seed, lambda: Mlp(width + 1, self.hidden, self.hidden, width))
        generator = torch.Generator().manual_seed(seed)

        def loss(chosen: Tensor) -> Tensor:
            clean = data[chosen]
            noise = torch.randn(clean.shape, generator=generator)
            time = torch.rand((len(clean), 1), generator=generator)
            velocity = network(torch.cat([clean + time * (noise - clean), time], dim=1))
            error: Tensor = (velocity - (noise - clean)).square().mean()
            return error

        return minimise(
            network,
            len(rows),
            loss,
            updates=self.updates,
            learning_rate=self.learning_rate,
            seed=seed,
        )

    def _strangeness(self, group: str, vector: Float32Array) -> float:
        inputs = np.append(vector, np.float32(0.0))
        landed = vector + self._networks[group](inputs)
        return float(landed @ landed)
