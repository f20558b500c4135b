# SPDX-License-Identifier: Apache-2.0
"""`vla eval`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from vla_nodes import figures
from vla_nodes.progress import progress_bar
from vla_policy import PolicyError, default_checkpoint
from vla_policy.delay_comparison import arms_of, compare_delays
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
        with progress_bar() as progress:
            total = config.episodes * len(SUITES[config.suite]) * _runs_per_scene(options)
            bar = progress.add_task(f"suite {config.suite}", total=total)
            result = _run(config, options, lambda _: progress.advance(bar))
    except (PolicyError, ValueError) as error:
        print(f"vla eval: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(figures.report(**result))
    else:
        _print(result)
    return 0


def _runs_per_scene(options: argparse.Namespace) -> int:
    return len(arms_of(options.schedule, options.delay or [4])) if options.schedule else 1


def _run(
    config: EvaluationConfig, options: argparse.Namespace, progress: Callable[[Any], None]
) -> dict[str, Any]:
    if options.pairs:
        return evaluate_pairs(config, progress)
    if not options.schedule:
        if options.delay:
            raise ValueError("--delay belongs to a --schedule")
        return evaluate(config, progress)
    return compare_delays(config, options.schedule, options.delay or [4], progress)


def _print(result: dict[str, Any]) -> None:
    console = Console()
    if "tasks" in result:
        console.print(_table(result))
    if "table" in result:
        console.print(_schedules(result["table"]))
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


def _schedules(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Success under delay; 95 % paired bootstrap intervals")
    for name in ("schedule", "delay", "success", "over delay-free", "over asynchronous"):
        table.add_column(name, justify="left" if name == "schedule" else "right")
    for row in rows:
        ratio, difference = row.get("over_delay_free"), row.get("over_asynchronous")
        table.add_row(
            row["schedule"],
            str(row["delay"]),
            f"{100 * row['success_rate']:.1f} %",
            "{:.3f} ({:.3f} to {:.3f})".format(*ratio) if ratio else "-",
            "{:+.3f} ({:+.3f} to {:+.3f})".format(*difference) if difference else "-",
        )
    return table
