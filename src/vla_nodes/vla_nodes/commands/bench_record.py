# SPDX-License-Identifier: Apache-2.0
"""`vla bench record`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vla_data import crash_campaign
from vla_nodes.benches import convert as convert_bench
from vla_nodes.benches.convert import ConvertBenchError
from vla_nodes.benches.record import Load, RecordBenchError, run
from vla_nodes.commands import figures
from vla_nodes.commands.progress import progress_bar
from vla_nodes.system import shared_memory
from vla_nodes.system.up import environment

# Domain ids whose ports lie below those that the system hands out to anybody who asks.
FIRST_DOMAIN, DOMAINS = 10, 90
EPISODE = 10.0  # s, of the episodes that are converted


def main(options: argparse.Namespace) -> int:
    """Measures the recorder under load, after crashes, or a conversion; prints the figures."""
    measure = _crash if options.crash else _convert if options.convert else _load
    try:
        with tempfile.TemporaryDirectory(prefix="vla_bench_record_", dir=options.folder) as folder:
            found, settings, failures = measure(Path(folder), options)
    except (RecordBenchError, ConvertBenchError, OSError) as error:
        print(f"vla bench record: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(figures.report(found, settings))
    else:
        table = Table(title="Recorder", title_justify="left")
        table.add_column("figure")
        table.add_column("value", justify="right")
        for name, value in found.items():
            table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
        Console().print(table)
    for failure in failures:
        print(f"vla bench record: {failure}", file=sys.stderr)
    return int(bool(failures))


def _crash(
    folder: Path, options: argparse.Namespace
) -> tuple[dict[str, float], dict[str, Any], list[str]]:
    with progress_bar() as progress:
        bar = progress.add_task("crashes", total=options.kills + options.full_disks)
        seen = crash_campaign.run(
            folder,
            options.kills,
            options.full_disks,
            options.seed,
            lambda: progress.advance(bar),
        )
    settings = {"seed": options.seed, "small_disk": seen.small_disk, "failures": seen.failures}
    return seen.figures(), settings, seen.failures


def _convert(
    folder: Path, options: argparse.Namespace
) -> tuple[dict[str, float], dict[str, Any], list[str]]:
    episodes = max(1, round(options.seconds / EPISODE))
    what = convert_bench.Recorded(options.seconds, episodes, options.width)
    with progress_bar() as progress:
        bar = progress.add_task("bags, conversion", total=episodes + 1)
        found = convert_bench.run(what, folder, lambda: progress.advance(bar))
    return found, asdict(what), []


def _load(
    folder: Path, options: argparse.Namespace
) -> tuple[dict[str, float], dict[str, Any], list[str]]:
    load = Load(seconds=options.seconds, cameras=options.cameras, width=options.width)
    try:
        found = run(load, folder, environment(), domain())
    finally:
        shared_memory.remove_stale()
    return found, asdict(load), []


def domain() -> int:
    """A DDS domain that nobody else uses, as far as can be told."""
    return FIRST_DOMAIN + os.getpid() % DOMAINS
