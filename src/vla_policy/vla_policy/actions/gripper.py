# SPDX-License-Identifier: Apache-2.0
"""What a policy's gripper value means: metres, or a share of the way with a sign of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..types import Array

UNITS = ("m", "fraction")


@dataclass(frozen=True)
class GripperConvention:
    """Conversion between a policy's gripper value and the opening between the finger pads.

    Attributes:
        unit: ``m``: the value is the opening; ``fraction``: it runs from closed to open.
        open_value: Value of the open gripper (``fraction``).
        closed_value: Value of the closed gripper (``fraction``).
        max_opening: Opening of the open gripper, m (``fraction``).
        binary: Whether values on either side of the middle mean open and closed (``fraction``).
    """

    unit: str = "m"
    open_value: float = 1.0
    closed_value: float = 0.0
    max_opening: float | None = None
    binary: bool = False

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"gripper unit is {self.unit!r}; valid: {', '.join(UNITS)}")
        if self.unit == "m":
            if self.binary:
                raise ValueError("a gripper in metres cannot be binary; its unit is 'fraction'")
            return
        values = (self.open_value, self.closed_value)
        if not all(np.isfinite(values)) or self.open_value == self.closed_value:
            raise ValueError(
                f"gripper open_value {self.open_value} and closed_value {self.closed_value} must "
                "be two different numbers"
            )
        if self.max_opening is None or not 0.0 < self.max_opening < 1.0:
            raise ValueError(
                f"gripper max_opening is {self.max_opening}; valid: above 0 and below 1 m"
            )

    def encode(self, opening: npt.NDArray[np.float64]) -> Array:
        """Values (...) of openings (...) in m."""
        if self.max_opening is None:
            return np.array(opening, dtype=np.float64)
        share = self._clean(np.asarray(opening) / self.max_opening)
        return np.asarray(self.closed_value + share * (self.open_value - self.closed_value))

    def decode(self, value: npt.NDArray[np.float64]) -> Array:
        """Openings (...) in m of values (...), between closed and open."""
        if self.max_opening is None:
            return np.array(value, dtype=np.float64)
        share = (np.asarray(value) - self.closed_value) / (self.open_value - self.closed_value)
        return np.asarray(self._clean(share) * self.max_opening)

    def _clean(self, share: Array) -> Array:
        share = np.clip(share, 0.0, 1.0)
        return np.asarray((share >= 0.5).astype(np.float64) if self.binary else share)
