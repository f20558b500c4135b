# SPDX-License-Identifier: Apache-2.0
"""What chunks tell by themselves: how consecutive ones disagree, how far and smoothly they go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..episodes import Episode, FailureDetectionError, Float32Array, Start, Step
from .base import SignalDetector, check_positive, labels
from .logistic import Standardised, fit_episodes
from .networks import sigmoid

# Metres that a turn by one radian counts for, as at the tip of a finger.
_LEVER = 0.1
# ‖R₁ − R₂‖ of the first two columns is about √2 times the angle or less.
_SCALES = np.array([1.0] * 3 + [_LEVER / np.sqrt(2.0)] * 6 + [1.0], np.float32)
# Slower than this the tool stands still, m/s.
_STILL = 0.01
# Where position, rotation and opening begin.
_PARTS = [0, 3, 9]


def points(chunk: Float32Array) -> Float32Array:
    """A chunk (..., H, 10) in metres: position, rotation by its lever, opening."""
    return chunk * _SCALES


class Overlap:
    """Aligns a chunk with the one before: the steps that both are meant for."""

    def __init__(self, start: Start) -> None:
        self._step_dt = start.step_dt
        self._before: tuple[float, Float32Array] | None = None

    def __call__(
        self, time: float, chunks: Float32Array
    ) -> tuple[Float32Array, Float32Array] | None:
        """The common steps (..., h, 10) of the chunks before and of these; None at the first.

        Args:
            time: Of the observation, s.
            chunks: (..., H, 10) of one inference.

        Raises:
            FailureDetectionError: If chunks do not overlap.
        """
        before, self._before = self._before, (time, chunks)
        if before is None:
            return None
        horizon = chunks.shape[-2]
        shift = round((time - before[0]) / self._step_dt)
        if not 0 < shift < horizon:
            raise FailureDetectionError(
                f"chunks of {horizon} steps begin {shift} steps apart; they must overlap"
            )
        return before[1][..., shift:, :], chunks[..., : horizon - shift, :]


@dataclass
class StacSingle(SignalDetector):
    """How far a chunk is from the one before where both say the same steps, m, mean over steps."""

    name: ClassVar[str] = "stac_single"
    accumulate: str = "sum"

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """Nothing is learned."""

    def begin(self, start: Start) -> None:
        """See ``SignalDetector.begin``."""
        self._overlap = Overlap(start)

    def signal(self, step: Step) -> float:
        """See ``SignalDetector.signal``."""
        common = self._overlap(step.time, points(step.chunk))
        if common is None:
            return 0.0
        return float(np.linalg.norm(common[0] - common[1], axis=-1).mean())


@dataclass
class ActionProbe(SignalDetector):
    """Logistic regression on how consecutive chunks disagree and how far they go (after ActProbe).

    Attributes:
        accumulate: See ``SignalDetector``; the mean tells a lasting doubt from a short one.
        penalty: Of squared weights.
    """

    name: ClassVar[str] = "action_probe"
    accumulate: str = "mean"
    penalty: float = 1e-2

    def check(self) -> None:
        """See ``Detector.check``."""
        super().check()
        check_positive(penalty=self.penalty)

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """See ``Detector.fit``."""
        failed = labels(episodes)
        rows = []
        for episode in episodes:
            self.begin(episode.info.start)
            rows.append(np.stack([self._measures(step) for step in episode.steps()]))
        self.arrays = fit_episodes(rows, failed, penalty=self.penalty).arrays()

    def prepare(self) -> None:
        """See ``Detector.prepare``."""
        self._logistic = Standardised(self.arrays)

    def begin(self, start: Start) -> None:
        """See ``SignalDetector.begin``."""
        self._overlap = Overlap(start)

    def signal(self, step: Step) -> float:
        """See ``SignalDetector.signal``."""
        return sigmoid(self._logistic.logit(self._measures(step)))

    def _measures(self, step: Step) -> Float32Array:
        """Disagreement, way and displacement of a chunk, each of position, rotation and opening."""
        chunk = points(step.chunk)
        common = self._overlap(step.time, chunk)
        moves = [chunk[-1:] - chunk[:1], chunk[1:] - chunk[:-1]]
        if common is not None:
            moves.append(common[1] - common[0])
        lengths, begin = _lengths(np.concatenate(moves)), len(chunk)
        measures = np.zeros((3, 3), np.float32)
        if common is not None:
            np.add.reduce(lengths[begin:], axis=0, out=measures[0])
            measures[0] /= len(common[0])
        np.add.reduce(lengths[1:begin], axis=0, out=measures[1])
        measures[2] = lengths[0]
        return measures.reshape(9)


@dataclass
class Reversals(SignalDetector):
    """Share of the steps so far at which the commanded motion turned back on itself."""

    name: ClassVar[str] = "reversals"

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """Nothing is learned."""

    def begin(self, start: Start) -> None:
        """See ``SignalDetector.begin``."""
        self._start = start
        self._last = np.zeros((1, 3), np.float32)
        self._turns, self._steps = 0, 0

    def signal(self, step: Step) -> float:
        """See ``SignalDetector.signal``."""
        moves = _differences(executed_positions(step.chunk, self._start))
        lengths = np.sqrt((moves * moves).sum(axis=1))
        moving = moves[lengths > _STILL * self._start.step_dt]
        path = np.concatenate([self._last, moving])
        self._turns += int(np.count_nonzero((path[1:] * path[:-1]).sum(axis=1) < 0.0))
        self._last = path[-1:]
        self._steps += len(moves)
        return self._turns / self._steps


@dataclass
class Jerk(SignalDetector):
    """Root mean square of the third difference of the commanded positions, m/s³."""

    name: ClassVar[str] = "jerk"
    accumulate: str = "mean"

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """Nothing is learned."""

    def begin(self, start: Start) -> None:
        """See ``SignalDetector.begin``."""
        self._start = start

    def signal(self, step: Step) -> float:
        """See ``SignalDetector.signal``."""
        path = executed_positions(step.chunk, self._start)
        if len(path) < 4:
            raise FailureDetectionError(f"{len(path)} steps are executed; jerk needs 4")
        jerk = _differences(_differences(_differences(path))) / np.float32(self._start.step_dt**3)
        return math.sqrt(np.vdot(jerk, jerk) / len(jerk))


def executed_positions(chunk: Float32Array, start: Start) -> Float32Array:
    """Commanded positions from this observation to the next, both included, m."""
    return chunk[: start.execute_steps + 1, :3]


def _differences(rows: Float32Array) -> Float32Array:
    """Between neighbours; what ``np.diff`` gives, in a third of its time."""
    return rows[1:] - rows[:-1]


def _lengths(differences: Float32Array) -> Float32Array:
    """Lengths (..., 3) of the position, rotation and opening of differences (..., 10)."""
    return np.sqrt(np.add.reduceat(np.square(differences), _PARTS, axis=-1))
