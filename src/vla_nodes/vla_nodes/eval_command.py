# SPDX-License-Identifier: Apache-2.0
"""`vla eval`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from vla_nodes import figures
from vla_nodes.progress import progress_bar
from vla_policy import PolicyError, default_checkpoint
from vla_policy.evaluation import SUITES, EvaluationConfig, evaluate, evaluate_pairs


def main(options: argparse.Namespace) -> int:
    """Evaluates a checkpoint and prints its figures."""
    try:
        config = EvaluationConfig(
            checkpoint=options.policy or default_checkpoint(),
            suite=options.suite,
            robot=options.robot,
            episodes=options.episodes,
            first=options.first,
            purpose=options.purpose,
            images=options.images,
            workers=options.workers,
        )
        total = config.episodes * len(SUITES[config.suite])
        with progress_bar() as progress:
            bar = progress.add_task(f"suite {config.suite}", total=total)
            run = evaluate_pairs if options.pairs else evaluate
            result = run(config, lambda _: progress.advance(bar))
    except (PolicyError, ValueError) as error:
        print(f"vla eval: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(figures.report(**result))
    else:
        _print(result)
    return 0


def _print(result: dict[str, Any]) -> None:
    console = Console()
    if "tasks" in result:
        console.print(_table(result))
    for name, value in result["figures"].items():
        console.print(f"{name}: {value:.3f}", highlight=False)


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f"Policy {result['settings']['policy_id'][:12]}")
    for name in ("task", "successes", "rate", "Wilson 95 %", "median time"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task, entry in result["tasks"].items():
        low, high = entry["wilson_95"]
        time = entry["median_time_to_success_s"]
        table.add_row(
            task,
            f"{entry['successes']}/{entry['episodes']}",
            f"{100 * entry['success_rate']:.1f} %",
            f"{100 * low:.1f} to {100 * high:.1f} %",
            "-" if time is None else f"{time:.1f} s",
        )
    return table
