# SPDX-License-Identifier: Apache-2.0
"""From a detector's folder to a monitor of a running robot: no torch, no pyarrow, no simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .binding import Binding
from .calibration import Calibration
from .calibration.drift import DriftTest
from .detectors.saving import detector_id, load_detector
from .monitor import Monitor, MonitorConfig

# In the folder of a detector.
CALIBRATION, DRIFT = "calibration.json", "drift"


def load_monitor(
    folder: Path, running: Binding | None, config: MonitorConfig | None = None
) -> Monitor:
    """A monitor of what ``fit`` and ``calibrate`` left in a folder.

    Args:
        folder: Of the detector.
        running: What runs; where it is not what was calibrated, the monitor abstains. None = it
            is not known yet.
        config: How alarms become decisions.

    Raises:
        FailureDetectionError: If something cannot be read. No calibration is none: the monitor
            abstains, or goes on without, as its configuration says.
    """
    detector, identity = load_detector(folder), detector_id(folder)
    if not (folder / CALIBRATION).is_file():
        return Monitor(detector, identity, running, None, None, config)
    calibration = Calibration.load(folder / CALIBRATION)
    drift = DriftTest(load_detector(folder / DRIFT), np.array(calibration.drift_maxima))
    return Monitor(detector, identity, running, calibration, drift, config)
