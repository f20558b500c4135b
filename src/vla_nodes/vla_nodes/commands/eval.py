# SPDX-License-Identifier: Apache-2.0
"""`vla eval`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vla_nodes.commands import figures
from vla_nodes.commands.progress import progress_bar
from vla_policy import PolicyError, default_checkpoint
from vla_policy.evaluation.delay_comparison import Arm, arms_of, compare_delays, jobs_of
from vla_policy.evaluation.evaluate import (
    EvaluationConfig,
    compared,
    evaluate_pairs,
    evaluate_suites,
)
from vla_policy.evaluation.page import draw_page
from vla_sim.suites import PERTURBATIONS


def main(options: argparse.Namespace) -> int:
    """Evaluates a checkpoint and prints its figures."""
    try:
        configs = [_config(options, suite) for suite in _suites(options.suite or ["basic"])]
        with progress_bar() as progress:
            names = ", ".join(config.suite for config in configs)
            bar = progress.add_task(f"suite {names}", total=_count(configs, options))
            result = _run(configs, options, lambda _: progress.advance(bar))
        if options.against:
            result = _against(result, options.against)
        if options.report:
            _write(result, options.report)
    except KeyboardInterrupt:
        if options.report and not options.pairs:
            print(
                f"vla eval: stopped; finished episodes are kept in {options.report}, and the same "
                "command goes on from there",
                file=sys.stderr,
            )
        raise
    except (PolicyError, ValueError, OSError) as error:
        print(f"vla eval: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(figures.report(**result))
    else:
        _print(result)
    return 0


def _config(options: argparse.Namespace, suite: str) -> EvaluationConfig:
    return EvaluationConfig(
        checkpoint=options.policy or default_checkpoint(),
        suite=suite,
        robot=options.robot,
        episodes=options.episodes,
        first=options.first,
        purpose=options.purpose,
        images=options.images,
        workers=options.workers,
        tasks=tuple(options.task or ()),
    )


def _suites(names: list[str]) -> list[str]:
    """The suites asked for, with those that ``perturbations`` stands for."""
    expanded = [n for name in names for n in (PERTURBATIONS if name == "perturbations" else [name])]
    return list(dict.fromkeys(expanded))


def _arms(options: argparse.Namespace) -> list[Arm]:
    delays = [_delay(text) for text in options.delay or ["4"]]
    return arms_of(options.schedule, delays, options.episodes)


def _delay(text: str) -> tuple[int, int | None]:
    """Steps, and episodes per task if they are told."""
    steps, _, count = text.partition(":")
    try:
        return int(steps), int(count) if count else None
    except ValueError:
        raise ValueError(f"--delay {text!r}; valid: STEPS or STEPS:EPISODES") from None


def _count(configs: list[EvaluationConfig], options: argparse.Namespace) -> int:
    """Episodes in all."""
    if options.with_failure_detector:
        return 3 * sum(config.episodes * len(config.chosen) for config in configs)
    if options.schedule:
        return len(jobs_of(configs, _arms(options)))
    return sum(config.episodes * len(config.chosen) for config in configs)


def _run(
    configs: list[EvaluationConfig],
    options: argparse.Namespace,
    progress: Callable[[Any], None],
) -> dict[str, Any]:
    if options.pairs and (len(configs) > 1 or options.report or options.schedule):
        raise ValueError("--pairs takes one --suite, and neither --report nor --schedule")
    plain = not (options.pairs or options.schedule or options.with_failure_detector)
    if options.against and not plain:
        raise ValueError("--against goes with neither --pairs, --schedule nor a failure detector")
    if options.with_failure_detector:
        return _compare_with_detector(configs, options, progress)
    if options.pairs:
        return evaluate_pairs(configs[0], progress)
    if not options.schedule:
        if options.delay:
            raise ValueError("--delay belongs to a --schedule")
        return evaluate_suites(configs, progress, options.report)
    return compare_delays(configs, _arms(options), options.report, progress)


def _compare_with_detector(
    configs: list[EvaluationConfig],
    options: argparse.Namespace,
    progress: Callable[[Any], None],
) -> dict[str, Any]:
    from vla_failure.comparison import Watching, compare_with_detector

    if options.pairs or options.schedule or options.report or len(configs) > 1:
        raise ValueError(
            "--with-failure-detector takes one --suite and goes with neither --pairs, --schedule "
            "nor --report"
        )
    watching = Watching(options.with_failure_detector, options.retries, options.drift_level)
    return compare_with_detector(configs[0], watching, progress)


def _against(result: dict[str, Any], file: Path) -> dict[str, Any]:
    """The result, compared with that in a file.

    Raises:
        ValueError: The file is none of `vla eval`, or of other scenes.
    """
    try:
        return compared(result, json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--against {file}: {error}") from None


def _write(result: dict[str, Any], folder: Path) -> None:
    """Writes all that was found, and a page of plots of an evaluation without schedules."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eval.json").write_text(figures.report(**result), encoding="utf-8")
    if "arms" in result["settings"]:
        return
    policy = result["settings"]["policy_id"][:12]
    draw_page(result["table"], folder / "eval.png", f"Policy {policy}")


def _print(result: dict[str, Any]) -> None:
    console = Console()
    rows = result.get("table", [])
    if rows and "schedule" in rows[0]:
        console.print(_schedules(rows))
    elif rows and "arm" in rows[0]:
        console.print(_watched(rows))
    elif rows:
        console.print(_table(rows, result["settings"]["policy_id"]))
    for name, value in result["figures"].items():
        console.print(f"{name}: {value:.3f}", highlight=False)


def _table(rows: list[dict[str, Any]], policy_id: str) -> Table:
    table = Table(title=f"Policy {policy_id[:12]}; % with 95 % Wilson intervals, medians")
    for name in ("suite", "task", "success", "right object", "s", "m", "N", "m/s³"):
        justify: Any = "left" if name in ("suite", "task") else "right"
        table.add_column(name, justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(
            row["suite"],
            row["task"],
            _rate(row["success_rate"], row["success_wilson_95"]),
            _rate(row["intention_rate"], row["intention_wilson_95"]),
            _number(row["time_to_success_s"], "{:.1f}"),
            _number(row["path_length_m"], "{:.2f}"),
            _number(row["peak_force_n"], "{:.1f}"),
            _number(row["seam_jerk"], "{:.0f}"),
        )
    return table


def _rate(rate: float | None, interval: tuple[float, float] | None) -> str:
    if rate is None or interval is None:
        return "-"
    low, high = interval
    return f"{100 * rate:.1f} ({100 * low:.0f}-{100 * high:.0f})"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _schedules(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Success under delay; 95 % paired bootstrap intervals")
    names = ("suite", "schedule", "delay", "n", "success", "over delay-free", "over asynchronous")
    for name in names:
        table.add_column(name, justify="left" if name in ("suite", "schedule") else "right")
    for row in rows:
        ratio, difference = row.get("over_delay_free"), row.get("over_asynchronous")
        table.add_row(
            row["suite"],
            row["schedule"],
            str(row["delay"]),
            str(row["episodes"]),
            f"{100 * row['success_rate']:.1f} %",
            "{:.3f} ({:.3f} to {:.3f})".format(*ratio) if ratio else "-",
            "{:+.3f} ({:+.3f} to {:+.3f})".format(*difference) if difference else "-",
        )
    return table


def _watched(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="With and without a failure detector; % with 95 % Wilson intervals")
    for name in ("watched by", "success", "went back", "alarmed", "asked", "failed unannounced"):
        table.add_column(name, justify="left" if name == "watched by" else "right")
    names = {"unwatched": "nobody", "watched": "the detector", "random": "random alarms"}
    for row in rows:
        table.add_row(
            names[row["arm"]],
            _rate(row["success_rate"], row["success_wilson_95"]),
            f"{row['retries_per_episode']:.2f}",
            f"{100 * row['alarmed_rate']:.1f}",
            f"{100 * row['asked_rate']:.1f}",
            f"{100 * row['unannounced_failure_rate']:.1f}",
        )
    return table
