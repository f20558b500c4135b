# SPDX-License-Identifier: Apache-2.0
"""`vla eval`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from vla_nodes.progress import progress_bar
from vla_policy import PolicyError, default_checkpoint
from vla_policy.evaluation import SUITES, EvaluationConfig, evaluate


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
            result = evaluate(config, lambda episode: progress.advance(bar))
    except (PolicyError, ValueError) as error:
        print(f"vla eval: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(result, indent=2, default=str))
    else:
        _print(result)
    return 0


def _print(result: dict[str, Any]) -> None:
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
    console = Console()
    console.print(table)
    for name, value in result["figures"].items():
        console.print(f"{name}: {value:.3f}", highlight=False)
