# SPDX-License-Identifier: Apache-2.0
"""Fitted detectors on disk: settings (JSON) and what was learned (safetensors). No torch."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..episodes import FailureDetectionError
from . import DETECTORS, Detector

FORMAT = 1
SETTINGS, ARRAYS = "detector.json", "detector.safetensors"


def make_detector(name: str, settings: dict[str, object] | None = None) -> Detector:
    """A detector that is still to be fitted.

    Raises:
        FailureDetectionError: If there is no such detector or setting, or a value is of another
            type.
    """
    if name not in DETECTORS:
        raise FailureDetectionError(f"unknown detector {name!r}; valid: {', '.join(DETECTORS)}")
    kind = DETECTORS[name]
    valid = asdict(kind())
    unknown = sorted((settings or {}).keys() - valid.keys())
    if unknown:
        raise FailureDetectionError(
            f"unknown settings {unknown} of {name!r}; valid: {', '.join(valid) or 'none'}"
        )
    for key, value in (settings or {}).items():
        wanted = type(valid[key])
        fits = type(value) is wanted or (wanted is float and type(value) is int)
        if not fits:
            raise FailureDetectionError(
                f"{key} of {name!r} is {value!r}; valid: {wanted.__name__}, such as {valid[key]!r}"
            )
    return kind(**(settings or {}))


def save_detector(folder: Path, detector: Detector) -> str:
    """Writes a fitted detector and returns its id."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "detector.tmp"
    save_file(detector.arrays, temporary)
    os.replace(temporary, folder / ARRAYS)
    settings = {"format": FORMAT, "name": detector.name, "settings": asdict(detector)}
    temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, folder / SETTINGS)
    return detector_id(folder)


def load_detector(folder: Path) -> Detector:
    """Reads a fitted detector.

    Raises:
        FailureDetectionError: Naming what is missing or does not fit.
    """
    try:
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        arrays = load_file(folder / ARRAYS)
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        raise FailureDetectionError(f"the detector in {folder} cannot be read: {error}") from error
    if found.get("format") != FORMAT:
        raise FailureDetectionError(
            f"{folder / SETTINGS} has format {found.get('format')}, not {FORMAT}"
        )
    detector = make_detector(found["name"], found["settings"])
    detector.arrays = arrays
    return detector


def detector_id(folder: Path) -> str:
    """Hash of settings and weights, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in (SETTINGS, ARRAYS):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]
