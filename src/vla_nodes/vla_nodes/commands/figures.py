# SPDX-License-Identifier: Apache-2.0
"""The one JSON object that `--json` prints: figures, settings, versions, machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("mujoco", "numpy", "torch", "transformers", "pin", "mcap", "rosbags", "ros-rclpy")


def versions() -> dict[str, str]:
    """Versions of what the figures depend on; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def software() -> dict[str, str]:
    """What a recording was made with: the suite's version, its commit where it is a checkout."""
    found = {"python": platform.python_version()}
    for package in ("vla_nodes", "ros-rclpy"):
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    folder = Path(__file__).resolve().parent
    with suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5.0,
            check=True,
        )
        found["commit"] = told.stdout.strip()
    return found


def machine() -> dict[str, Any]:
    """The machine in a few words; no name of it."""
    model = ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    except OSError:
        pass
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
    }


def report(figures: Mapping[str, Any], settings: Mapping[str, Any], **more: Any) -> str:
    """The object as text.

    Args:
        figures: Name with unit, e.g. ``chunk_age_p50_ms``, to number.
        settings: What was asked for.
        **more: Further entries, such as single episodes.
    """
    return json.dumps(
        {
            "figures": dict(figures),
            "settings": dict(settings),
            "versions": versions(),
            "machine": machine(),
            **more,
        },
        indent=2,
        default=str,
    )
