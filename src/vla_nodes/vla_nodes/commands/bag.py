# SPDX-License-Identifier: Apache-2.0
"""`vla bag info`, `vla bag check`, `vla bag repair`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from vla_data import EpisodeReadError, bag_info, bag_table, check_bag, check_table, repair_bag
from vla_nodes.commands import figures


def main(options: argparse.Namespace) -> int:
    """Runs one of the commands on every bag that is named."""
    make, totals, show, good = COMMANDS[options.run]
    results = []
    failed = False
    for path in options.bag:
        try:
            results.append(make(path))
        except (EpisodeReadError, OSError) as error:
            print(f"vla bag {options.run}: {error}", file=sys.stderr)
            failed = True
            continue
        if not options.json:
            show(results[-1])
    if options.json and results:
        print(figures.report(totals(results), {"bags": results}))
    return int(failed or not all(good(result) for result in results))


def _info_totals(infos: list[dict[str, Any]]) -> Mapping[str, Any]:
    return {
        "bags_count": len(infos),
        "messages_count": sum(info["message_count"] for info in infos),
        "duration_s": sum(info["duration_s"] for info in infos),
        "drops_count": sum(info["drops_count"] or 0 for info in infos),
    }


def _check_totals(results: list[dict[str, Any]]) -> Mapping[str, Any]:
    return {
        "bags_count": len(results),
        "unsound_count": sum(not result["sound"] for result in results),
        "messages_count": sum(result["message_count"] for result in results),
    }


def _repair_totals(results: list[dict[str, Any]]) -> Mapping[str, Any]:
    return {
        "bags_count": len(results),
        "repaired_count": sum(result["repaired"] is not None for result in results),
        "messages_count": sum(result["message_count"] for result in results),
        "chunks_lost_count": sum(result["chunks_lost_count"] for result in results),
    }


def _show_repair(result: dict[str, Any]) -> None:
    if result["repaired"] is None:
        print(f"{result['path']}: sound, nothing to repair")
        return
    for problem in result["problems"]:
        print(f"{result['path']}: {problem}")
    tail = result["tail_lost_s"]
    lost = "an unknown time" if tail is None else f"{tail:.3f} s"
    print(
        f"{result['repaired']}: {result['message_count']} messages over "
        f"{result['duration_s']:.2f} s; {result['chunks_lost_count']} chunks could not be read; "
        f"the damaged end held {lost} more. {result['path']} is left as it was."
    )


COMMANDS: dict[str, tuple[Callable[..., Any], ...]] = {
    "info": (bag_info, _info_totals, lambda info: Console().print(bag_table(info)), lambda _: True),
    "check": (
        check_bag,
        _check_totals,
        lambda result: Console().print(check_table(result)),
        lambda result: result["sound"],
    ),
    "repair": (repair_bag, _repair_totals, _show_repair, lambda _: True),
}
