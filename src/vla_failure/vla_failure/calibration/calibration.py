# SPDX-License-Identifier: Apache-2.0
"""A calibration: bands, and what they hold for."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..binding import Binding
from ..episodes import FailureDetectionError
from .band import Band, Shape, TaskBands

FORMAT = 1


@dataclass(frozen=True)
class Calibration:
    """Bands of one detector on one policy as it was run.

    Attributes:
        binding: What was run.
        detector_id: Hash of the detector, see ``detectors.saving``.
        bands: Of its scores.
        drift_maxima: (n,) of the drift test; see ``DriftTest``.
    """

    binding: Binding
    detector_id: str
    bands: TaskBands
    drift_maxima: tuple[float, ...]

    @property
    def calibration_id(self) -> str:
        """Of what was run."""
        return self.binding.calibration_id

    def mismatches(self, running: Binding, detector_id: str) -> list[str]:
        """In words, why this calibration does not hold for what runs; empty = it does."""
        found = self.binding.mismatches(running)
        if detector_id != self.detector_id:
            found.append(f"detector_id is {detector_id}, calibrated was {self.detector_id}")
        return found

    def save(self, path: Path) -> None:
        """Writes it as JSON; numbers come back to the last bit."""
        values = {
            "format": FORMAT,
            "calibration_id": self.calibration_id,
            "binding": self.binding.to_dict(),
            "detector_id": self.detector_id,
            "drift_maxima": list(self.drift_maxima),
            "pooled": _band_to_dict(self.bands.pooled),
            "by_task": {task: _band_to_dict(band) for task, band in self.bands.by_task.items()},
        }
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(values, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)

    @staticmethod
    def load(path: Path) -> Calibration:
        """Reads what ``save`` wrote.

        Raises:
            FailureDetectionError: If it is missing, incomplete, or not what its id says.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] != FORMAT:
                raise FailureDetectionError(f"{path} has format {values['format']}, not {FORMAT}")
            found = Calibration(
                Binding.from_dict(values["binding"]),
                values["detector_id"],
                TaskBands(
                    _band_of_dict(values["pooled"]),
                    {task: _band_of_dict(band) for task, band in values["by_task"].items()},
                ),
                tuple(float(value) for value in values["drift_maxima"]),
            )
            noted = values["calibration_id"]
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise FailureDetectionError(f"{path} cannot be read: {error!r}") from error
        if noted != found.calibration_id:
            raise FailureDetectionError(
                f"{path} says that it is {noted}, but what it holds is {found.calibration_id}"
            )
        return found


def _band_to_dict(band: Band) -> dict[str, Any]:
    return {
        "centre": band.shape.centre.tolist(),
        "modulation": band.shape.modulation.tolist(),
        "quantile": band.quantile,
        "alpha": band.alpha,
        "count": band.count,
    }


def _band_of_dict(values: dict[str, Any]) -> Band:
    shape = Shape(np.array(values["centre"], float), np.array(values["modulation"], float))
    return Band(shape, float(values["quantile"]), float(values["alpha"]), int(values["count"]))
