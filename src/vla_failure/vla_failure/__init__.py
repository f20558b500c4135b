# SPDX-License-Identifier: Apache-2.0
"""Failure detection for policies: rollouts, detectors, calibration, statistics.

Importing it loads neither torch nor a simulator: detectors are fitted with torch and run without.
"""

from .episodes import Episode, EpisodeInfo, FailureDetectionError, Outcome, Step

__all__ = ["Episode", "EpisodeInfo", "FailureDetectionError", "Outcome", "Step"]
