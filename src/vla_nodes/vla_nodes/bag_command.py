# SPDX-License-Identifier: Apache-2.0
"""`vla bag info`."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from vla_data import EpisodeReadError, bag_info, bag_table
from vla_nodes import figures


def main(options: argparse.Namespace) -> int:
    """Prints what bags hold."""
    infos = []
    for path in options.bag:
        try:
            infos.append(bag_info(path))
        except (EpisodeReadError, OSError) as error:
            print(f"vla bag info: {error}", file=sys.stderr)
            return 1
    if options.json:
        totals = {
            "bags_count": len(infos),
            "messages_count": sum(info["message_count"] for info in infos),
            "duration_s": sum(info["duration_s"] for info in infos),
            "drops_count": sum(info["drops_count"] or 0 for info in infos),
        }
        print(figures.report(totals, {"bags": infos}))
    else:
        console = Console()
        for info in infos:
            console.print(bag_table(info))
    return 0
