# SPDX-License-Identifier: Apache-2.0
"""`vla bench transport`."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from vla_nodes.commands import figures
from vla_policy.bench import transport

PAIRS = {
    "ours": "our client, our server",
    "openpi": "openpi's client, openpi's loop",
    "openpi_client": "openpi's client, our server",
}


def main(options: argparse.Namespace) -> int:
    """Measures round trips over loopback and prints them."""
    measured = transport.run(options.rounds)
    if options.json:
        print(figures.report(measured, {"rounds": options.rounds}))
        return 0
    table = Table(title="Round trip of an observation and a chunk, ms")
    for name in ("images", "between", "median", "99 %"):
        table.add_column(name, justify="left" if name in ("images", "between") else "right")
    for size in transport.SIZES:
        for pair, title in PAIRS.items():
            name = f"transport_{size}_{pair}"
            if f"{name}_p50_ms" in measured:
                p50, p99 = (measured[f"{name}_{part}_ms"] for part in ("p50", "p99"))
                table.add_row(size, title, f"{p50:.2f}", f"{p99:.2f}")
    console = Console()
    console.print(table)
    if "transport_2x224_openpi_p50_ms" not in measured:
        console.print("openpi-client is not installed: nothing to compare with")
    return 0
