# SPDX-License-Identifier: Apache-2.0
"""`vla bench console`."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vla_nodes.benches.console import LOSSES, ConsoleBenchError, Rounds, measure, settings
from vla_nodes.commands import figures
from vla_nodes.commands.bench_record import domain
from vla_nodes.commands.progress import progress_bar
from vla_nodes.system import shared_memory
from vla_nodes.system.up import environment


def main(options: argparse.Namespace) -> int:
    """Measures in a real browser and prints the figures."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its browsers end with it
    rounds = Rounds(options.presses, options.losses, options.seconds)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="vla_bench_console_") as folder,
            progress_bar() as bar,
        ):
            steps = rounds.presses + rounds.losses * len(LOSSES)
            task = bar.add_task("keys, lost pages", total=steps)
            found = measure(
                rounds, Path(folder), environment(), domain(), lambda: bar.advance(task)
            )
    except (ConsoleBenchError, OSError) as error:
        print(f"vla bench console: {error}", file=sys.stderr)
        return 1
    finally:
        shared_memory.remove_stale()
    if options.json:
        print(figures.report(found, settings(rounds)))
        return 0
    table = Table(title="Console", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in found.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)
    return 0
