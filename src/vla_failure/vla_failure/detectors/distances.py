# SPDX-License-Identifier: Apache-2.0
"""Distances of the features to those of successful episodes, less those to failed ones.

As the baselines of SAFE (Gu et al., 2025): Mahalanobis, cosine and Euclidean to the nearest, and
k-means in the plane of the principal components.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.linalg import eigh

from ..episodes import Episode, Float32Array, FloatArray, Step
from .base import SignalDetector, View, check_positive, labels

SUCCESS, FAILURE = "success", "failure"
Groups = Mapping[str, Float32Array]


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
        vectors = [self._view.sequence(episode) for episode in episodes]
        self.arrays = self._learn(
            {
                group: np.concatenate(
                    [v for v, other in zip(vectors, failed, strict=True) if other == label]
                )
                for group, label in ((SUCCESS, 0), (FAILURE, 1))
            },
            rng,
        )

    def signal(self, step: Step) -> float:
        """See ``SignalDetector.signal``."""
        vector = self._projected(self._view.of(step))
        distance = self._distance(SUCCESS, vector)
        return distance - self._distance(FAILURE, vector) if self.contrast else distance

    def learned(self, name: str) -> dict[str, Float32Array]:
        """Something that was learned of each group.

        Raises:
            FailureDetectionError: If it was not fitted.
        """
        return {group: self.array(f"{group}.{name}") for group in (SUCCESS, FAILURE)}

    def _projected(self, vector: Float32Array) -> Float32Array:
        """What the distances to both groups have in common."""
        return vector

    @abstractmethod
    def _learn(self, groups: Groups, rng: np.random.Generator) -> dict[str, Float32Array]:
        """What is kept of the vectors (n, F) of both groups; ``<group>.<name>`` is of one."""

    @abstractmethod
    def _distance(self, group: str, vector: Float32Array) -> float:
        """Distance of a projected vector to a group."""


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

    def _learn(self, groups: Groups, rng: np.random.Generator) -> dict[str, Float32Array]:
        del rng
        means = {group: rows.mean(axis=0, dtype=np.float64) for group, rows in groups.items()}
        # Axes V along which neither group correlates: Vᵀ S V = 1 for the covariance S of successes,
        # diagonal for that of failures. So one product serves both distances.
        values, axes = eigh(
            *(self._covariance(groups[group], means[group]) for group in (FAILURE, SUCCESS))
        )
        learned = {
            "mean": means[SUCCESS],
            "axes": axes.T,
            "offset": axes.T @ (means[FAILURE] - means[SUCCESS]),
            "scale": 1.0 / np.sqrt(values),
        }
        return {name: array.astype(np.float32) for name, array in learned.items()}

    def _covariance(self, rows: Float32Array, mean: FloatArray) -> FloatArray:
        centred = rows - mean
        covariance: FloatArray = centred.T @ centred / max(1, len(centred) - 1)
        level = self.ridge * float(np.trace(covariance)) / len(covariance)
        return covariance + max(level, 1e-12) * np.eye(len(covariance))

    def prepare(self) -> None:
        """See ``Detector.prepare``."""
        self._mean, self._axes = self.array("mean"), self.array("axes")
        self._offset, self._scale = self.array("offset"), self.array("scale")

    def _projected(self, vector: Float32Array) -> Float32Array:
        projected: Float32Array = np.dot(self._axes, vector - self._mean)
        return projected

    def _distance(self, group: str, vector: Float32Array) -> float:
        white = vector if group == SUCCESS else (vector - self._offset) * self._scale
        return math.sqrt(np.dot(white, white))


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

    def _learn(self, groups: Groups, rng: np.random.Generator) -> dict[str, Float32Array]:
        drawn = {group: self._drawn(rows, rng) for group, rows in groups.items()}
        return {f"{group}.directions": rows / _norms(rows) for group, rows in drawn.items()}

    def prepare(self) -> None:
        """See ``Detector.prepare``."""
        self._directions = self.learned("directions")

    def _projected(self, vector: Float32Array) -> Float32Array:
        direction: Float32Array = vector / _norms(vector[None])[0]
        return direction

    def _distance(self, group: str, vector: Float32Array) -> float:
        return self._nearest(np.float32(1.0) - np.dot(self._directions[group], vector))


@dataclass
class Euclidean(Nearest):
    """Euclidean distance to the nearest."""

    name: ClassVar[str] = "euclidean"

    def _learn(self, groups: Groups, rng: np.random.Generator) -> dict[str, Float32Array]:
        return {f"{group}.vectors": self._drawn(rows, rng) for group, rows in groups.items()}

    def prepare(self) -> None:
        """See ``Detector.prepare``."""
        self._vectors = self.learned("vectors")
        self._squares = {group: _squares(rows) for group, rows in self._vectors.items()}

    def _distance(self, group: str, vector: Float32Array) -> float:
        # ‖x − y‖² = ‖x‖² + ‖y‖² − 2 x·y: reads the bank once and writes nothing of its size.
        squares = np.dot(self._vectors[group], vector)
        squares *= np.float32(-2.0)
        squares += self._squares[group]
        squares += np.dot(vector, vector)
        return self._nearest(np.sqrt(np.maximum(squares, np.float32(0.0))))


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

    def _learn(self, groups: Groups, rng: np.random.Generator) -> dict[str, Float32Array]:
        every = np.concatenate(list(groups.values())).astype(np.float64)
        mean = every.mean(axis=0)
        # Eigenvalues rise: the last axes are those of the largest variance.
        axes = eigh((every - mean).T @ (every - mean) / len(every))[1][:, ::-1].T
        axes = axes[: self.components]
        learned = {"mean": mean.astype(np.float32), "axes": axes.astype(np.float32)}
        for group, rows in groups.items():
            projected = (rows - mean) @ axes.T
            clusters = min(self.clusters, len(np.unique(projected, axis=0)))
            centres, _ = kmeans2(projected, clusters, minit="++", seed=rng)
            learned[f"{group}.centres"] = np.asarray(centres, np.float32)
        return learned

    def prepare(self) -> None:
        """See ``Detector.prepare``."""
        self._mean, self._axes = self.array("mean"), self.array("axes")
        self._centres = self.learned("centres")

    def _projected(self, vector: Float32Array) -> Float32Array:
        projected: Float32Array = np.dot(self._axes, vector - self._mean)
        return projected

    def _distance(self, group: str, vector: Float32Array) -> float:
        return math.sqrt(_squares(self._centres[group] - vector).min())


def _squares(vectors: Float32Array) -> Float32Array:
    """Squared lengths (n,)."""
    return np.asarray(np.einsum("ij,ij->i", vectors, vectors))


def _norms(vectors: Float32Array) -> Float32Array:
    """Lengths (n, 1), never zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.maximum(lengths, np.float32(1e-8)))
