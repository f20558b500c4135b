# SPDX-License-Identifier: Apache-2.0
"""`vla failure import`."""

from __future__ import annotations

import argparse
import sys

from vla_failure import FailureDetectionError
from vla_failure.importing.writing import import_rollouts
from vla_nodes.commands import figures


def main(options: argparse.Namespace) -> int:
    """Turns another policy's recorded rollouts into those of `vla rollouts`."""
    try:
        result = import_rollouts(options.layout, options.source, options.folder)
    except (FailureDetectionError, OSError) as error:
        print(f"vla failure import: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(figures.report(**result))
        return 0
    for name, value in result["figures"].items():
        print(f"{name}: {value:g}")
    return 0
