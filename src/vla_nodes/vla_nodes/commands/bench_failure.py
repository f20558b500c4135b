# SPDX-License-Identifier: Apache-2.0
"""`vla bench failure`."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from vla_failure import bench
from vla_nodes.commands import figures


def main(options: argparse.Namespace) -> int:
    """Measures what scoring one inference costs, detector by detector, and prints it."""
    measured = bench.run(options.rounds)
    if options.json:
        print(figures.report(measured, {"rounds": options.rounds}))
        return 0
    table = Table(title="Scoring one inference, ms")
    for name in ("detector", "median", "99 %"):
        table.add_column(name, justify="left" if name == "detector" else "right")
    for name in measured:
        if name.startswith("step_p50"):
            kind = name.removeprefix("step_p50").removesuffix("_ms").removeprefix("_")
            p99 = measured[name.replace("p50", "p99")]
            table.add_row(kind or "ours", f"{measured[name]:.3f}", f"{p99:.3f}")
    Console().print(table)
    return 0
