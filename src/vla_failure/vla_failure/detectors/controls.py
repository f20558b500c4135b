# SPDX-License-Identifier: Apache-2.0
"""Controls: what a detector scores that does not look at the policy.

Each is a way to look good for the wrong reason. ``proprioception`` is in ``safe``.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..episodes import Episode, EpisodeInfo, Start, Step
from .base import Detector, labels
from .logistic import fit_episodes

# Of squared weights: next to none.
_PENALTY = 1e-4


@dataclass
class Clock(Detector):
    """Counts inferences. Whatever it tells apart, episode length has leaked."""

    name: ClassVar[str] = "clock"

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """Nothing is learned."""

    def begin(self, start: Start) -> None:
        """See ``Detector.begin``."""
        self._count = 0

    def step(self, step: Step) -> float:
        """See ``Detector.step``."""
        self._count += 1
        return float(self._count)


@dataclass
class RandomAlarm(Detector):
    """Uniform noise. Calibrated like the others, it alarms as often, at random times."""

    name: ClassVar[str] = "random"

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """Nothing is learned."""

    def begin(self, start: Start) -> None:
        """See ``Detector.begin``."""
        digest = hashlib.sha256(start.episode_id.encode()).digest()
        self._rng = np.random.default_rng(list(digest[:8]))

    def step(self, step: Step) -> float:
        """See ``Detector.step``."""
        return float(self._rng.random())


@dataclass
class Rate(Detector):
    """Failure rate of the training episodes of the same group; of all, for a group unheard of."""

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """See ``Detector.fit``."""
        failed = labels(episodes)
        groups = np.array([self.group(episode.info) for episode in episodes])
        self.arrays = {
            f"rate.{group}": np.array([failed[groups == group].mean()], np.float32)
            for group in np.unique(groups)
        }
        self.arrays["overall"] = np.array([failed.mean()], np.float32)

    def begin(self, start: Start) -> None:
        """See ``Detector.begin``."""
        overall = self.array("overall")
        self._rate = float(self.arrays.get(f"rate.{self.group(start)}", overall)[0])

    def step(self, step: Step) -> float:
        """See ``Detector.step``."""
        return self._rate

    @abstractmethod
    def group(self, known: Start | EpisodeInfo) -> str:
        """The group of an episode."""


@dataclass
class TaskRate(Rate):
    """Knows the task and nothing else."""

    name: ClassVar[str] = "task_id"

    def group(self, known: Start | EpisodeInfo) -> str:
        """See ``Rate.group``."""
        return known.task


@dataclass
class PerturbationRate(Rate):
    """Knows the perturbation and nothing else."""

    name: ClassVar[str] = "perturbation_id"

    def group(self, known: Start | EpisodeInfo) -> str:
        """See ``Rate.group``."""
        return known.perturbation


@dataclass
class PolicyRate(Rate):
    """Knows which policy runs and nothing else: rollouts of a weak and a good one leak it."""

    name: ClassVar[str] = "policy_id"

    def group(self, known: Start | EpisodeInfo) -> str:
        """See ``Rate.group``."""
        return known.policy_id


@dataclass
class Severity(Detector):
    """Knows what is disturbed and how much: what there is to tell by that alone.

    Logistic regression on the severity, for each perturbation by itself.
    """

    name: ClassVar[str] = "severity"

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """See ``Detector.fit``."""
        failed = labels(episodes)
        known = np.array([episode.info.perturbation for episode in episodes])
        kinds = np.unique(known).tolist()
        severity = np.array([episode.info.severity for episode in episodes])
        drawn = (known[:, None] == kinds).astype(np.float32)
        rows = np.concatenate([drawn, drawn * severity[:, None]], axis=1, dtype=np.float32)
        found = fit_episodes(list(rows[:, None]), failed, penalty=_PENALTY)
        slopes = found.weights / found.spread
        level = found.bias - float(slopes @ found.mean)
        self.arrays = {
            f"kind.{kind}": np.array([level + slopes[i], slopes[len(kinds) + i]], np.float32)
            for i, kind in enumerate(kinds)
        }
        self.arrays["overall"] = np.zeros(2, np.float32)

    def begin(self, start: Start) -> None:
        """See ``Detector.begin``."""
        overall = self.array("overall")
        level, slope = self.arrays.get(f"kind.{start.perturbation}", overall)
        self._logit = float(level + slope * start.severity)

    def step(self, step: Step) -> float:
        """See ``Detector.step``."""
        return self._logit
