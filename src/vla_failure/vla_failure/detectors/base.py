# SPDX-License-Identifier: Apache-2.0
"""What every detector is: fitted on episodes, then asked inference by inference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..episodes import (
    AGGREGATES,
    Episode,
    FailureDetectionError,
    Float32Array,
    FloatArray,
    Start,
    Step,
)

ACCUMULATIONS = ("none", "mean", "sum", "max")
FIRST_LAST = "first_last"
# What a detector looks at: the policy's features, or the robot's own state.
SOURCES = ("features", "state")


@dataclass
class Detector(ABC):
    """Scores every inference of an episode by what has been seen of it so far; higher is worse.

    There is one way to score, step by step, for episodes on disk as for a running robot. The fields
    of a detector are its settings; what it has learned is in ``arrays``. One thread at a time.
    """

    name: ClassVar[str]
    # Whether it needs several samples per inference.
    needs_samples: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._arrays: dict[str, Float32Array] = {}
        self._prepared = False
        self.check()

    @property
    def arrays(self) -> dict[str, Float32Array]:
        """What was learned, by name; empty before."""
        return self._arrays

    @arrays.setter
    def arrays(self, arrays: Mapping[str, Float32Array]) -> None:
        # One layout in memory, whether fitted or loaded: another one sums in another order.
        self._arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        self._prepared = False

    def check(self) -> None:  # noqa: B027 (many have nothing to refuse)
        """Refuses settings that are not valid.

        Raises:
            FailureDetectionError: Naming the value and the valid ones.
        """

    @abstractmethod
    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """Learns from episodes.

        Args:
            episodes: To learn from; whoever did not succeed counts as a failure.
            seed: Of all randomness.

        Raises:
            FailureDetectionError: If they lack what the detector needs.
        """

    def start(self, start: Start) -> None:
        """Forgets the episode before.

        Raises:
            FailureDetectionError: If it was not fitted.
        """
        if not self._prepared:
            self.prepare()
            self._prepared = True
        self.begin(start)

    def prepare(self) -> None:  # noqa: B027 (many have nothing to prepare)
        """Lays out what was learned as scoring needs it: what need not be done at every step."""

    def begin(self, start: Start) -> None:  # noqa: B027 (many remember nothing)
        """Forgets what is remembered of the episode before."""

    @abstractmethod
    def step(self, step: Step) -> float:
        """Score of the next inference.

        Raises:
            FailureDetectionError: If it lacks what the detector needs.
        """

    def contributions(self) -> dict[str, float]:
        """What the last score is made of, by name; empty where it is of one piece."""
        return {}

    def array(self, name: str) -> Float32Array:
        """Something it has learned.

        Raises:
            FailureDetectionError: If it was not fitted.
        """
        if name not in self.arrays:
            raise FailureDetectionError(f"the detector {self.name!r} was not fitted: no {name!r}")
        return self.arrays[name]


def score_episode(detector: Detector, episode: Episode) -> FloatArray:
    """Scores (T,) of an episode; the same to the last bit as on a running robot."""
    detector.start(episode.info.start)
    return np.array([detector.step(step) for step in episode.steps()])


@dataclass
class SignalDetector(Detector):
    """A detector whose signal of single inferences is accumulated over the episode.

    Attributes:
        accumulate: ``none``, or the ``mean``, ``sum`` or ``max`` of the signals so far.
    """

    accumulate: str = "none"

    def check(self) -> None:
        """See ``Detector.check``."""
        check_choice("accumulate", self.accumulate, ACCUMULATIONS)

    def start(self, start: Start) -> None:
        """See ``Detector.start``."""
        self._count, self._sum, self._max = 0, 0.0, -np.inf
        super().start(start)

    @abstractmethod
    def signal(self, step: Step) -> float:
        """The signal of one inference."""

    def step(self, step: Step) -> float:
        """See ``Detector.step``."""
        value = self.signal(step)
        self._count += 1
        self._sum += value
        self._max = max(self._max, value)
        if self.accumulate == "none":
            return value
        if self.accumulate == "mean":
            return self._sum / self._count
        return self._sum if self.accumulate == "sum" else self._max


def check_choice(name: str, value: str, valid: Sequence[str]) -> None:
    """Refuses a setting that is not one of the valid ones.

    Raises:
        FailureDetectionError: Listing them.
    """
    if value not in valid:
        raise FailureDetectionError(f"unknown {name} {value!r}; valid: {', '.join(valid)}")


def check_positive(**settings: float) -> None:
    """Refuses settings that are not above zero.

    Raises:
        FailureDetectionError: Naming the first of them.
    """
    for name, value in settings.items():
        if not 0.0 < value < np.inf:
            raise FailureDetectionError(f"{name} is {value}; valid: > 0")


@dataclass(frozen=True)
class View:
    """Which vector of an inference a detector looks at.

    Attributes:
        source: One of ``SOURCES``.
        flow: Of features: ``first``, ``last`` or ``mean`` over the flow steps, or ``first_last``
            for both side by side.
        horizon: Of features, likewise over the horizon.
    """

    source: str = "features"
    flow: str = "mean"
    horizon: str = "mean"

    def __post_init__(self) -> None:
        check_choice("source", self.source, SOURCES)
        check_choice("flow", self.flow, (*AGGREGATES, FIRST_LAST))
        check_choice("horizon", self.horizon, (*AGGREGATES, FIRST_LAST))

    def of(self, step: Step) -> Float32Array:
        """The vector of one inference."""
        if self.source == "state":
            return step.state
        row, column = _PLACES.get(self.flow), _PLACES.get(self.horizon)
        if row is not None and column is not None:
            found: Float32Array = step.features[row, column]
            return found
        return step.features[np.ix_(_indices(self.flow), _indices(self.horizon))].reshape(-1)

    def sequence(self, episode: Episode) -> Float32Array:
        """The vectors (T, F) of an episode."""
        if self.source == "state":
            return episode.states
        chosen = episode.features[:, _indices(self.flow)][:, :, _indices(self.horizon)]
        return chosen.reshape(len(episode), -1).astype(np.float32)


_PLACES = {name: place for place, name in enumerate(AGGREGATES)}


def _indices(choice: str) -> list[int]:
    return [0, 1] if choice == FIRST_LAST else [_PLACES[choice]]


def labels(episodes: Sequence[Episode]) -> FloatArray:
    """1 for what did not succeed, else 0.

    Raises:
        FailureDetectionError: If there is nothing of either.
    """
    failed = np.array([not episode.info.success for episode in episodes], dtype=float)
    if len(set(failed)) < 2:
        raise FailureDetectionError(
            f"{len(failed)} episodes, {int(failed.sum())} of them failed: there is nothing to tell "
            "apart"
        )
    return failed
