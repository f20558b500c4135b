# SPDX-License-Identifier: Apache-2.0
"""An operator's devices, each as what it says at a time. No ROS."""

from __future__ import annotations

import enum

import numpy as np

from vla_sim.typing import FloatArray


class Absent(enum.Enum):
    """Why a device asks for nothing."""

    RELEASED = "nobody holds it"
    LOST = "it is not there, or says nothing"


def beyond_dead_zone(values: FloatArray, dead_zone: float) -> FloatArray:
    """Deflections, -1 to 1, that begin at 0 where the dead zone ends, and are whole at its end."""
    out: FloatArray = np.sign(values) * np.maximum(0.0, np.abs(values) - dead_zone)
    return out / (1.0 - dead_zone)
