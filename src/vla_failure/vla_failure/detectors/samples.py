# SPDX-License-Identifier: Apache-2.0
"""What several samples per inference tell: how they spread, and whether they agree over time.

None of these can be the headline detector: a robot executes one sample and need not draw more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist, pdist

from ..episodes import Episode, FailureDetectionError, Float32Array, FloatArray, Start, Step
from .base import SignalDetector, check_positive
from .chunks import Overlap, points


@dataclass
class SampleDetector(SignalDetector):
    """A signal of several samples per inference."""

    needs_samples: ClassVar[bool] = True

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """Nothing is learned."""


@dataclass
class SampleVariance(SampleDetector):
    """Variance of the samples around their mean, m², mean over steps."""

    name: ClassVar[str] = "sample_variance"

    def signal(self, step: Step) -> float:
        """See ``SignalDetector.signal``."""
        samples = _samples(step)
        return float(samples.var(axis=0).sum(axis=-1).mean())


@dataclass
class ClusterEntropy(SampleDetector):
    """Entropy of the shares of clusters among the samples, nat.

    Complete linkage: two samples of one cluster are never further apart than ``threshold``.

    Attributes:
        threshold: Root mean square distance over the steps, m.
    """

    name: ClassVar[str] = "cluster_entropy"
    threshold: float = 0.02

    def check(self) -> None:
        """See ``Detector.check``."""
        super().check()
        check_positive(threshold=self.threshold)

    def signal(self, step: Step) -> float:
        """See ``SignalDetector.signal``."""
        distances = pdist(_rows(_samples(step)))
        names = fcluster(linkage(distances, "complete"), self.threshold, "distance")
        shares = np.unique(names, return_counts=True)[1] / len(names)
        return float(-(shares * np.log(shares)).sum())


@dataclass
class Stac(SampleDetector):
    """Statistical temporal action consistency (Agia et al., 2024, "Unpacking Failure Modes ...").

    Squared maximum mean discrepancy, with a Gaussian kernel, between this inference's samples and
    the last one's on the steps that both are meant for.

    Attributes:
        accumulate: See ``SignalDetector``; published is the sum.
    """

    name: ClassVar[str] = "stac"
    accumulate: str = "sum"

    def fit(self, episodes: Sequence[Episode], seed: int = 0) -> None:
        """The kernel's width: the median distance of samples on common steps, of successes."""
        distances: list[FloatArray] = []
        for episode in episodes:
            if not episode.info.success or episode.samples is None:
                continue
            overlap = Overlap(episode.info.start)
            for step in episode.steps():
                common = overlap(step.time, _samples(step))
                if common is not None:
                    distances.append(cdist(_rows(common[0]), _rows(common[1])).ravel())
        if not distances:
            raise FailureDetectionError("no successful episode has several samples per inference")
        width = float(np.median(np.concatenate(distances)))
        self.arrays = {"width": np.array([max(width, 1e-6)], np.float32)}

    def begin(self, start: Start) -> None:
        """See ``SignalDetector.begin``."""
        self._overlap = Overlap(start)

    def signal(self, step: Step) -> float:
        """See ``SignalDetector.signal``."""
        common = self._overlap(step.time, _samples(step))
        if common is None:
            return 0.0
        width = float(self.array("width")[0])
        return squared_discrepancy(_rows(common[0]), _rows(common[1]), width)


def squared_discrepancy(first: Float32Array, second: Float32Array, width: float) -> float:
    """Squared maximum mean discrepancy of two sets of rows (n, F), (m, F).

    Biased estimate, never negative (Gretton et al., 2012, eq. 5), with the kernel
    exp(−d² / (2 width²)).
    """

    def mean_kernel(a: Float32Array, b: Float32Array) -> float:
        return float(np.exp(-cdist(a, b, "sqeuclidean") / (2.0 * width * width)).mean())

    squared = mean_kernel(first, first) + mean_kernel(second, second)
    return max(0.0, squared - 2.0 * mean_kernel(first, second))


def _samples(step: Step) -> Float32Array:
    """Samples (N, H, 10) in metres."""
    if step.samples is None or len(step.samples) < 2:
        raise FailureDetectionError("this inference has one sample; the detector needs several")
    return points(step.samples)


def _rows(chunks: Float32Array) -> Float32Array:
    """Chunks (N, h, 10) as rows whose distance is the root mean square over the steps."""
    scaled: Float32Array = chunks / np.sqrt(np.float32(chunks.shape[1]))
    return scaled.reshape(len(chunks), -1)
