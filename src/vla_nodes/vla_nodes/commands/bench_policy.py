# SPDX-License-Identifier: Apache-2.0
"""`vla bench policy`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from vla_nodes.benches import executor as executor_bench
from vla_nodes.benches import messages as message_bench
from vla_nodes.commands import figures
from vla_nodes.commands.bench_record import domain
from vla_nodes.commands.progress import progress_bar
from vla_nodes.system import shared_memory
from vla_nodes.system.up import environment
from vla_policy import PolicyError
from vla_policy.bench.policy import Setting, run

_SECONDS_PER_ROUND = 0.2  # of the executor's


def main(options: argparse.Namespace) -> int:
    """Measures inference and the way of messages to it and from it, and prints them."""
    gpu = torch.cuda.is_available()
    setting = Setting(
        device="cuda" if gpu else "cpu",
        rounds=options.rounds,
        views=(2,) if options.quick else (2, 3),
        backend="" if options.quick else "inductor",
    )
    try:
        with progress_bar() as progress:
            bar = progress.add_task("policy", total=None)
            measured = run(setting, lambda name: progress.update(bar, description=name))
            progress.update(bar, description="messages")
            measured.update(message_bench.run(options.rounds))
            progress.update(bar, description="executor")
            seconds = _SECONDS_PER_ROUND * options.rounds
            measured.update(executor_bench.run(seconds, environment(), domain()))
    except (OSError, PolicyError, RuntimeError) as error:
        print(f"vla bench policy: {error}", file=sys.stderr)
        return 1
    finally:
        shared_memory.remove_stale()
    settings = {
        "rounds": setting.rounds,
        "views": setting.views,
        "compiled": bool(setting.backend),
        "threads": 1,
        "gpu": torch.cuda.get_device_name() if gpu else "none: no π0 of full size was measured",
    }
    if options.json:
        print(figures.report(measured, settings))
    else:
        _show(measured, settings)
    return 0


def _show(measured: dict[str, float], settings: dict[str, Any]) -> None:
    table = Table(title=f"ms; GPU: {settings['gpu']}", title_justify="left")
    for name in ("what", "median", "99 %"):
        table.add_column(name, justify="left" if name == "what" else "right")
    console = Console()
    for name, value in measured.items():
        if name.endswith("_p50_ms"):
            what = name.removesuffix("_p50_ms")
            p99 = measured[f"{what}_p99_ms"]
            table.add_row(what.replace("_", " "), f"{value:.2f}", f"{p99:.2f}")
    console.print(table)
    for name, value in measured.items():
        if not name.endswith(("_p50_ms", "_p99_ms")):
            console.print(f"{name}: {value:.3f}", highlight=False)
