# SPDX-License-Identifier: Apache-2.0
"""Scores stay on disk: a report that was broken off goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .. import detectors
from ..episodes import Episode, FailureDetectionError, FloatArray

SCORES = "scores"


@dataclass(frozen=True)
class Scored:
    """What one detector gave in one fold.

    Attributes:
        settings: That were chosen on seen tasks.
        seen_auc: With them, on the *select* split.
        scores: (T,) of every episode that was scored, by its id.
    """

    settings: Mapping[str, Any]
    seen_auc: float
    scores: Mapping[str, FloatArray]


class Keeper:
    """Keeps scores in a folder; what was found for other rollouts, settings or code is not found.

    Args:
        folder: For files.
        episodes: Of the study.
        about: Whatever else scores depend on, ready for JSON.
    """

    def __init__(self, folder: Path, episodes: Sequence[Episode], about: Mapping[str, Any]) -> None:
        self._folder = folder
        told = [{**asdict(e.info), "steps": len(e)} for e in episodes]
        told.sort(key=lambda row: str(row["episode_id"]))
        self._key = _digest([told, about, _code()])

    def find(self, name: str, case: Any) -> Scored | None:
        """What was kept of a detector.

        Args:
            name: Of the detector.
            case: What tells its runs apart, ready for JSON.

        Raises:
            FailureDetectionError: If the file cannot be read.
        """
        path = self._path(name, case)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="np") as file:
                about = json.loads(file.metadata()["about"])
                scores = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise FailureDetectionError(f"{path} cannot be read: {error}") from error
        return Scored(about["settings"], about["seen_auc"], scores)

    def keep(self, name: str, case: Any, found: Scored) -> None:
        """Writes it; a crash leaves nothing half."""
        about = {"settings": dict(found.settings), "seen_auc": found.seen_auc}
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f"{name}.tmp"
        save_file(dict(found.scores), temporary, {"about": json.dumps(about)})
        os.replace(temporary, self._path(name, case))

    def _path(self, name: str, case: Any) -> Path:
        return self._folder / f"{name}-{_digest([self._key, case])}.safetensors"


def _code() -> str:
    """Of all detectors: others may score otherwise."""
    folder = Path(detectors.__file__).parent
    return _digest([path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
