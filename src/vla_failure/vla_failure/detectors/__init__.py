# SPDX-License-Identifier: Apache-2.0
"""Detectors behind one interface, each in the file of its kind; see ``base``."""

from __future__ import annotations

from .base import Detector, SignalDetector, View, score_episode
from .chunks import ActionProbe, Jerk, Reversals, StacSingle
from .controls import Clock, PerturbationRate, PolicyRate, RandomAlarm, Severity, TaskRate
from .distances import Cosine, Euclidean, Mahalanobis, PcaKmeans
from .fused import Fused
from .novelty import LogpZo, RandomNetworkDistillation
from .safe import Proprioception, SafeLstm, SafeMlp, TdLstm
from .samples import ClusterEntropy, SampleVariance, Stac

_CONTROLS: tuple[type[Detector], ...] = (
    Clock,
    TaskRate,
    PerturbationRate,
    Severity,
    PolicyRate,
    Proprioception,
    RandomAlarm,
)
_DETECTORS: tuple[type[Detector], ...] = (
    Fused,
    SafeMlp,
    SafeLstm,
    TdLstm,
    ActionProbe,
    Mahalanobis,
    Cosine,
    Euclidean,
    PcaKmeans,
    RandomNetworkDistillation,
    LogpZo,
    Stac,
    StacSingle,
    SampleVariance,
    ClusterEntropy,
    Reversals,
    Jerk,
)
# Look good for the wrong reason; printed in every report.
CONTROLS = {kind.name: kind for kind in _CONTROLS}
DETECTORS = {kind.name: kind for kind in (*_DETECTORS, *_CONTROLS)}

__all__ = [
    "CONTROLS",
    "DETECTORS",
    "Detector",
    "SignalDetector",
    "View",
    "score_episode",
]
