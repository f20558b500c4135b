# SPDX-License-Identifier: Apache-2.0
"""Our own detector: what others say of the one executed sample, weighed by logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..episodes import Episode, FailureDetectionError, Float32Array, FloatArray, Start, Step
from .base import Detector, SignalDetector, check_positive, labels
from .chunks import ActionProbe, Jerk, Reversals
from .distances import Mahalanobis, PcaKmeans
from .logistic import Standardised, fit_logistic
from .networks import sigmoid
from .safe import SafeMlp, TdLstm

# Together the members have to score an inference within 0.2 ms on one core.
_LSTM_WIDTH = 64


@dataclass
class Fused(SignalDetector):
    """Members of different kinds, stacked (Wolpert, 1992, "Stacked generalization").

    The weights are learned on scores of episodes that the members have not seen: they are fitted
    on one half of the seeds, score the other, and the other way round; then they are fitted on all.
    No weight is negative, so more of any member's suspicion never means less of the whole's.

    Attributes:
        accumulate: See ``SignalDetector``.
        penalty: Of squared weights.
        flow: Of features, see ``View``.
        horizon: Of features, see ``View``.
        learning_rate: Of the members that are networks over time.
        weight_decay: Of the same.
        updates: Of the same.
        chunks: Whether those that look at chunks are members; they need chunks that overlap.
    """

    name: ClassVar[str] = "fused"
    penalty: float = 1e-3
    flow: str = "mean"
    horizon: str = "mean"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    updates: int = 200
    chunks: bool = True

    def check(self) -> None:
        """See ``Detector.check``."""
        super().check()
        check_positive(penalty=self.penalty)
        self._members = self._make()
        self._parts = np.zeros(len(self._members), np.float32)

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """See ``Detector.fit``."""
        failed = labels(episodes)
        seeds = sorted({episode.info.seed for episode in episodes})
        if len(seeds) < 2:
            raise FailureDetectionError("fused needs episodes of two seeds or more")
        half = set(np.random.default_rng(seed).permutation(seeds)[: len(seeds) // 2].tolist())
        in_half = np.array([episode.info.seed in half for episode in episodes])
        rows: list[Float32Array] = [np.empty((0, 0), np.float32)] * len(episodes)
        for scored in (in_half, ~in_half):
            self._fit_members([e for e, s in zip(episodes, scored, strict=True) if not s], seed)
            for index in np.flatnonzero(scored).tolist():
                self.begin(episodes[index].info.start)
                rows[index] = np.stack([self._opinions(step) for step in episodes[index].steps()])
        wanted: FloatArray = np.concatenate(
            [np.full(len(r), y) for r, y in zip(rows, failed, strict=True)]
        )
        share = {label: np.sum(failed == label) for label in (0.0, 1.0)}
        weights: FloatArray = np.concatenate(
            [
                np.full(len(r), 1.0 / (len(r) * share[y]))
                for r, y in zip(rows, failed.tolist(), strict=True)
            ]
        )
        found = fit_logistic(
            np.concatenate(rows), wanted, weights, penalty=self.penalty, nonnegative=True
        )
        self._fit_members(episodes, seed)
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
        """See ``SignalDetector.begin``."""
        self._step = 0
        self._parts = np.zeros_like(self._parts)
        for member in self._members:
            member.start(start)

    def signal(self, step: Step) -> float:
        """See ``SignalDetector.signal``."""
        self._parts = self._logistic.parts(self._opinions(step))
        return sigmoid(self._logistic.total(self._parts))

    def contributions(self) -> dict[str, float]:
        """See ``Detector.contributions``: parts of the logit."""
        return dict(zip((m.name for m in self._members), self._parts.tolist(), strict=True))

    def member_weights(self) -> dict[str, float]:
        """What the opinion of each member counts for."""
        weights = self.array("weights").tolist()
        return dict(zip((m.name for m in self._members), weights, strict=True))

    def _make(self) -> list[Detector]:
        features: dict[str, Any] = {"flow": self.flow, "horizon": self.horizon}
        learning: dict[str, Any] = {
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "updates": self.updates,
        }
        of_features = [
            SafeMlp(**features, **learning),
            TdLstm(hidden=_LSTM_WIDTH, **features, **learning),
            Mahalanobis(accumulate="mean", **features),
            PcaKmeans(accumulate="mean", **features),
        ]
        return [*of_features, ActionProbe(), Reversals(), Jerk()] if self.chunks else of_features

    def _fit_members(self, episodes: Sequence[Episode], seed: int) -> None:
        self.arrays = {}
        for member in self._members:
            member.fit(episodes, seed)

    def _opinions(self, step: Step) -> Float32Array:
        """What the members say; none of it grows with time alone."""
        self._step += 1
        scores = [member.step(step) for member in self._members]
        scores[0] /= self._step  # SAFE-MLP's sum
        return np.array(scores, np.float32)
