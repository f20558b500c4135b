# SPDX-License-Identifier: Apache-2.0
"""Whether an episode looks like anything that was calibrated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..detectors import Detector, score_episode
from ..detectors.distances import Mahalanobis
from ..episodes import Episode, FailureDetectionError, FloatArray, Start, Step


def make_drift_detector() -> Mahalanobis:
    """Distance of the features to those of successes, the largest of an episode so far."""
    return Mahalanobis(accumulate="max", contrast=False)


@dataclass
class DriftTest:
    """A conformal test of the largest distance to what successes look like.

    p = (1 + number of calibration successes with a larger or equal maximum) / (n + 1). For a
    success exchangeable with them P(p <= u) <= u (Vovk, Gammerman, Shafer, 2005); within an
    episode p can only fall, so it may be looked at after every inference.

    Attributes:
        detector: See ``make_drift_detector``; fitted on other episodes.
        maxima: (n,) of the calibration successes.
    """

    detector: Detector
    maxima: FloatArray
    _p: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        self.maxima = np.sort(np.asarray(self.maxima, float))
        if not len(self.maxima) or not np.all(np.isfinite(self.maxima)):
            raise FailureDetectionError(f"{len(self.maxima)} maxima; needed are finite ones")

    @staticmethod
    def calibrated(detector: Detector, successes: Sequence[Episode]) -> DriftTest:
        """The test that successes not used to fit the detector give."""
        return DriftTest(detector, np.array([score_episode(detector, e).max() for e in successes]))

    @property
    def p_value(self) -> float:
        """Of the episode so far."""
        return self._p

    @property
    def least(self) -> float:
        """The smallest p-value that there can be."""
        return 1.0 / (len(self.maxima) + 1)

    def start(self, start: Start) -> None:
        """Forgets the episode before."""
        self._p = 1.0
        self.detector.start(start)

    def update(self, step: Step) -> float:
        """p-value after the next inference."""
        largest = self.detector.step(step)
        if not np.isfinite(largest):
            raise FailureDetectionError(f"the distance of the features is {largest}")
        above = len(self.maxima) - int(np.searchsorted(self.maxima, largest, "left"))
        self._p = (1.0 + above) / (len(self.maxima) + 1.0)
        return self._p
