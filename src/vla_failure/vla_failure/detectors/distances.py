# SPDX-License-Identifier: Apache-2.0
"""Distances of the features to those of successful episodes, less those to failed ones.

As the baselines of SAFE (Gu et al., 2025): Mahalanobis, cosine and Euclidean to the nearest, and
k-means in the plane of the principal components.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.cluster.vq import kmeans2

from ..episodes import Episode, Float32Array, Step
from .base import SignalDetector, View, check_positive, labels

SUCCESS, FAILURE = "success", "failure"


@dataclass
class Distance(SignalDetector):
    """Distance to what successes look like, less the distance to what failures look like.

    Attributes:
        accumulate: See ``SignalDetector``; SAFE sums.
        flow: Of features, see ``View``.
        horizon: Of features, see ``View``.
        contrast: Whether the distance to failures is taken off.
    """

    accumulate: str = "sum"
    flow: str = "mean"
    horizon: str = "mean"
    contrast: bool = True

    def check(self) -> None:
        """See ``Detector.check``."""
        super().check()
        self._view = View("features", self.flow, self.horizon)

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """See ``Detector.fit``."""
        failed = labels(episodes)
        rng = np.random.default_rng(seed)
        self.arrays = {}
        for group, label in ((SUCCESS, 0), (FAILURE, 1)):
            vectors = [
                self._view.sequence(episode)
                for episode, is_failed in zip(episodes, failed, strict=True)
                if is_failed == label
            ]
            found = self._model(np.concatenate(vectors), rng)
            self.arrays |= {f"{group}.{name}": array for name, array in found.items()}

    def signal(self, step: Step) -> float:
        """See ``SignalDetector.signal``."""
        vector = self._prepared(self._view.of(step))
        distance = self._distance(SUCCESS, vector)
        return distance - self._distance(FAILURE, vector) if self.contrast else distance

    def _prepared(self, vector: Float32Array) -> Float32Array:
        """What the distances to both groups have in common."""
        return vector

    @abstractmethod
    def _model(self, vectors: Float32Array, rng: np.random.Generator) -> dict[str, Float32Array]:
        """What is kept of vectors (n, F)."""

    @abstractmethod
    def _distance(self, group: str, vector: Float32Array) -> float:
        """Distance of a prepared vector to a group."""


@dataclass
class Mahalanobis(Distance):
    """To the mean, in units of the covariance.

    Attributes:
        ridge: Added to the covariance, share of its mean diagonal.
    """

    name: ClassVar[str] = "mahalanobis"
    ridge: float = 1e-3

    def check(self) -> None:
        """See ``Detector.check``."""
        super().check()
        check_positive(ridge=self.ridge)

    def _model(self, vectors: Float32Array, rng: np.random.Generator) -> dict[str, Float32Array]:
        del rng
        wide = vectors.astype(np.float64)
        centred = wide - wide.mean(axis=0)
        covariance = centred.T @ centred / max(1, len(centred) - 1)
        level = self.ridge * float(np.trace(covariance)) / len(covariance)
        values, axes = np.linalg.eigh(covariance + max(level, 1e-12) * np.eye(len(covariance)))
        whitening = (axes / np.sqrt(values)).T
        return {
            "mean": wide.mean(axis=0).astype(np.float32),
            "whitening": whitening.astype(np.float32),
        }

    def _distance(self, group: str, vector: Float32Array) -> float:
        offset = vector - self.array(f"{group}.mean")
        white = self.array(f"{group}.whitening") @ offset
        return math.sqrt(white @ white)


@dataclass
class Nearest(Distance):
    """Mean distance to the k nearest of a bank of vectors.

    Attributes:
        neighbours: k.
        bank: Vectors kept of each group, drawn at random.
    """

    neighbours: int = 10
    bank: int = 5000

    def check(self) -> None:
        """See ``Detector.check``."""
        super().check()
        check_positive(neighbours=self.neighbours, bank=self.bank)

    def _nearest(self, distances: Float32Array) -> float:
        k = min(self.neighbours, len(distances))
        return float(np.partition(distances, k - 1)[:k].mean())

    def _drawn(self, vectors: Float32Array, rng: np.random.Generator) -> Float32Array:
        return vectors[rng.permutation(len(vectors))[: self.bank]]


@dataclass
class Cosine(Nearest):
    """One minus the cosine of the angle to the nearest."""

    name: ClassVar[str] = "cosine"

    def _model(self, vectors: Float32Array, rng: np.random.Generator) -> dict[str, Float32Array]:
        drawn = self._drawn(vectors, rng)
        return {"directions": drawn / _norms(drawn)}

    def _distance(self, group: str, vector: Float32Array) -> float:
        direction = vector / _norms(vector[None])[0]
        return self._nearest(np.float32(1.0) - self.array(f"{group}.directions") @ direction)


@dataclass
class Euclidean(Nearest):
    """Euclidean distance to the nearest."""

    name: ClassVar[str] = "euclidean"

    def _model(self, vectors: Float32Array, rng: np.random.Generator) -> dict[str, Float32Array]:
        return {"vectors": self._drawn(vectors, rng)}

    def _distance(self, group: str, vector: Float32Array) -> float:
        return self._nearest(np.linalg.norm(self.array(f"{group}.vectors") - vector, axis=1))


@dataclass
class PcaKmeans(Distance):
    """Distance to the nearest of some centres, in the plane of the principal components.

    Attributes:
        components: Principal components of both groups together.
        clusters: Centres per group.
    """

    name: ClassVar[str] = "pca_kmeans"
    components: int = 64
    clusters: int = 16

    def check(self) -> None:
        """See ``Detector.check``."""
        super().check()
        check_positive(components=self.components, clusters=self.clusters)

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """See ``Detector.fit``."""
        every = np.concatenate([self._view.sequence(e) for e in episodes]).astype(np.float64)
        mean = every.mean(axis=0)
        covariance = (every - mean).T @ (every - mean) / len(every)
        _, axes = np.linalg.eigh(covariance)
        # Eigenvalues rise: the last axes are those of the largest variance.
        self._mean, self._axes = mean, axes[:, ::-1][:, : self.components].T
        super().fit(episodes, seed)
        self.arrays |= {
            "mean": mean.astype(np.float32),
            "axes": self._axes.astype(np.float32),
        }

    def _model(self, vectors: Float32Array, rng: np.random.Generator) -> dict[str, Float32Array]:
        projected = (vectors - self._mean) @ self._axes.T
        clusters = min(self.clusters, len(np.unique(projected, axis=0)))
        centres, _ = kmeans2(projected, clusters, minit="++", seed=rng)
        return {"centres": np.asarray(centres, np.float32)}

    def _prepared(self, vector: Float32Array) -> Float32Array:
        projected: Float32Array = self.array("axes") @ (vector - self.array("mean"))
        return projected

    def _distance(self, group: str, vector: Float32Array) -> float:
        offsets = self.array(f"{group}.centres") - vector
        return math.sqrt((offsets * offsets).sum(axis=1).min())


def _norms(vectors: Float32Array) -> Float32Array:
    """Lengths (n, 1), never zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.maximum(lengths, np.float32(1e-8)))
