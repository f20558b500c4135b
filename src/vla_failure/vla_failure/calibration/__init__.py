# SPDX-License-Identifier: Apache-2.0
"""From scores to alarms: bands that hold what they promise, and say when they cannot."""

from .adaptive import AdaptiveBand, Verdict, prequential
from .band import Band, Shape, TaskBands, fit_band, fit_task_bands, order_statistic
from .calibration import Calibration

__all__ = [
    "AdaptiveBand",
    "Band",
    "Calibration",
    "Shape",
    "TaskBands",
    "Verdict",
    "fit_band",
    "fit_task_bands",
    "order_statistic",
    "prequential",
]
