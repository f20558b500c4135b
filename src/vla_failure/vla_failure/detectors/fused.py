# SPDX-License-Identifier: Apache-2.0
"""Our own detector: what chunks and features tell so far, weighed for tasks that were never seen.

It looks at the one executed sample alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from ..episodes import Episode, FailureDetectionError, Float32Array, Start, Step
from .base import Detector, View, check_positive, labels
from .chunks import ActionProbe
from .logistic import Standardised, fit_episodes

# Into so many parts the training is cut, to hold out each in turn.
_TURNS = 3
# Added to means before their logarithm is taken, m.
_FLOOR = np.float32(1e-3)


@dataclass
class ChunkProbe(ActionProbe):
    """``ActionProbe`` on logarithms of the measures' means so far: ratios count, not metres.

    Its score is the logit.
    """

    name: ClassVar[str] = "chunks"
    accumulate: str = "none"

    def begin(self, start: Start) -> None:
        """See ``SignalDetector.begin``."""
        super().begin(start)
        self._total, self._inferences = np.zeros(9, np.float32), 0

    def signal(self, step: Step) -> float:
        """See ``SignalDetector.signal``."""
        return self._logistic.logit(self._measures(step))

    def _measures(self, step: Step) -> Float32Array:
        self._total += super()._measures(step)
        self._inferences += 1
        logarithms: Float32Array = np.log(self._total / np.float32(self._inferences) + _FLOOR)
        return logarithms


@dataclass
class FeatureProbe(Detector):
    """Logistic regression on the mean of the features so far, in their principal components.

    The components are scaled to variance one, so the penalty weighs on all of them alike, and those
    of least variance are left out: few tasks do not tell what these mean on another one. The
    score is the logit.

    Attributes:
        flow: Of features, see ``View``.
        horizon: Of features, see ``View``.
        components: Number of principal components.
        penalty: Of squared weights.
    """

    name: ClassVar[str] = "features"
    flow: str = "first_last"
    horizon: str = "mean"
    components: int = 128
    penalty: float = 0.1

    def check(self) -> None:
        """See ``Detector.check``."""
        self._view = View("features", self.flow, self.horizon)
        check_positive(components=self.components, penalty=self.penalty)

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """See ``Detector.fit``."""
        failed = labels(episodes)
        vectors = [self._view.sequence(episode) for episode in episodes]
        every = np.concatenate(vectors).astype(np.float64)
        centre = every.mean(axis=0)
        every -= centre
        count = min(self.components, every.shape[1])
        last = every.shape[1] - 1
        values, axes = eigh(every.T @ every / len(every), subset_by_index=(last - count + 1, last))
        axes /= np.sqrt(np.maximum(values, 1e-12))
        found = fit_episodes(
            [_means((v - centre) @ axes) for v in vectors],
            failed,
            penalty=self.penalty,
        )
        # All of this is linear in the mean of the features: one vector is kept.
        weights = axes @ (found.weights / found.spread)
        bias = found.bias - found.mean @ (found.weights / found.spread) - centre @ weights
        self.arrays = {
            "weights": weights.astype(np.float32),
            "bias": np.array([bias], np.float32),
        }

    def prepare(self) -> None:
        """See ``Detector.prepare``."""
        self._weights, self._bias = self.array("weights"), float(self.array("bias")[0])

    def begin(self, start: Start) -> None:
        """See ``Detector.begin``."""
        self._sum, self._inferences = 0.0, 0

    def step(self, step: Step) -> float:
        """See ``Detector.step``."""
        self._sum += float(np.dot(self._weights, self._view.of(step)))
        self._inferences += 1
        return self._sum / self._inferences + self._bias


@dataclass
class Fused(Detector):
    """What the two tell, stacked (Wolpert, 1992, "Stacked generalization") across tasks.

    What each is worth is learned where it counts: members are fitted on some tasks and score the
    others, part by part; then they are fitted on all. Learned on scenes of the same tasks instead,
    the weights favour what knows these tasks by heart. No weight is negative, so more of any
    member's suspicion never means less of the whole's.

    The score is the logit, which does not saturate.

    Attributes:
        penalty: Of squared weights.
        flow: See ``FeatureProbe``.
        horizon: See ``FeatureProbe``.
        components: See ``FeatureProbe``.
        chunks: Whether chunks are looked at; they must overlap.
    """

    name: ClassVar[str] = "fused"
    penalty: float = 1e-3
    flow: str = "first_last"
    horizon: str = "mean"
    components: int = 128
    chunks: bool = True

    def check(self) -> None:
        """See ``Detector.check``."""
        check_positive(penalty=self.penalty)
        features = FeatureProbe(flow=self.flow, horizon=self.horizon, components=self.components)
        self._members: list[Detector] = [features, ChunkProbe()] if self.chunks else [features]
        self._parts = np.zeros(len(self._members), np.float32)

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """See ``Detector.fit``."""
        failed = labels(episodes)
        rows: list[Float32Array] = [np.empty((0, 0), np.float32)] * len(episodes)
        for held_out in _turns(episodes, seed):
            self._fit_members([e for e, out in zip(episodes, held_out, strict=True) if not out])
            for index in np.flatnonzero(held_out).tolist():
                self.begin(episodes[index].info.start)
                rows[index] = np.stack([self._opinions(step) for step in episodes[index].steps()])
        found = fit_episodes(rows, failed, penalty=self.penalty, nonnegative=True)
        self._fit_members(episodes)
        self.arrays = found.arrays()
        for member in self._members:
            self.arrays |= {f"{member.name}/{k}": a for k, a in member.arrays.items()}

    def prepare(self) -> None:
        """See ``Detector.prepare``."""
        self._logistic = Standardised(self.arrays)
        for member in self._members:
            prefix = f"{member.name}/"
            member.arrays = {
                k.removeprefix(prefix): a for k, a in self.arrays.items() if k.startswith(prefix)
            }

    def begin(self, start: Start) -> None:
        """See ``Detector.begin``."""
        self._parts = np.zeros_like(self._parts)
        for member in self._members:
            member.start(start)

    def step(self, step: Step) -> float:
        """See ``Detector.step``."""
        self._parts = self._logistic.parts(self._opinions(step))
        return self._logistic.total(self._parts)

    def contributions(self) -> dict[str, float]:
        """See ``Detector.contributions``: parts of the score."""
        return dict(zip((m.name for m in self._members), self._parts.tolist(), strict=True))

    def member_weights(self) -> dict[str, float]:
        """What the opinion of each member counts for."""
        weights = self.array("weights").tolist()
        return dict(zip((m.name for m in self._members), weights, strict=True))

    def _fit_members(self, episodes: Sequence[Episode]) -> None:
        self.arrays = {}
        for member in self._members:
            member.fit(episodes)

    def _opinions(self, step: Step) -> Float32Array:
        return np.array([member.step(step) for member in self._members], np.float32)


def _means(rows: npt.NDArray[np.floating]) -> Float32Array:
    """Means (T, F) of the rows so far."""
    return np.asarray(np.cumsum(rows, axis=0) / np.arange(1, len(rows) + 1)[:, None], np.float32)


def _turns(episodes: Sequence[Episode], seed: int) -> list[npt.NDArray[np.bool_]]:
    """Episodes (n,) to hold out in turn: tasks; seeds, where tasks are too few for that.

    Raises:
        FailureDetectionError: If seeds are too few as well.
    """
    failed = np.array([not episode.info.success for episode in episodes])
    keys: list[Callable[[Episode], str]] = [lambda e: e.info.task, lambda e: str(e.info.seed)]
    for key in keys:
        groups = np.array([key(episode) for episode in episodes])
        names = np.random.default_rng(seed).permutation(np.unique(groups))
        turns = [np.isin(groups, names[turn::_TURNS]) for turn in range(min(_TURNS, len(names)))]
        # What is left to fit the members on must hold some of either kind.
        if len(turns) > 1 and all(len(set(failed[~out])) == 2 for out in turns):
            return turns
    raise FailureDetectionError(
        f"{len(episodes)} episodes, {failed.sum()} of them failed, are too few to hold some out"
    )
