# SPDX-License-Identifier: Apache-2.0
"""`vla failure`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from vla_failure import FailureDetectionError
from vla_failure.fitting import calibrate, fit
from vla_nodes.commands import figures


def main(options: argparse.Namespace) -> int:
    """Fits a detector on rollouts, or calibrates one."""
    try:
        if options.run == "fit":
            result = fit(
                options.rollouts,
                options.out,
                options.detector,
                _settings(options.setting or []),
                unseen=options.unseen or [],
                seed=options.seed,
            )
        else:
            result = calibrate(options.rollouts, options.detector, options.alpha)
    except (FailureDetectionError, OSError) as error:
        print(f"vla failure {options.run}: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(figures.report(**result))
        return 0
    for name, value in result["figures"].items():
        print(f"{name}: {value:g}")
    for name in ("calibration_id", "guarantee"):
        if name in result["settings"]:
            print(f"{name}: {result['settings'][name]}")
    return 0


def _settings(given: list[str]) -> dict[str, Any]:
    """Settings as Python values: numbers and truth values as in JSON, anything else as text.

    Raises:
        FailureDetectionError: If one is not NAME=VALUE.
    """
    settings: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise FailureDetectionError(f"{text!r} is not NAME=VALUE")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = value
    return settings
