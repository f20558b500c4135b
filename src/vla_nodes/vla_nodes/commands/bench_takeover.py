# SPDX-License-Identifier: Apache-2.0
"""`vla bench takeover`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vla_nodes.benches import takeover as live
from vla_nodes.commands import figures
from vla_nodes.commands.bench_record import domain
from vla_nodes.commands.progress import progress_bar
from vla_nodes.system import shared_memory
from vla_nodes.system.up import environment
from vla_sim import robots
from vla_sim.control_bench import takeover
from vla_sim.robots import RobotError

GOALS = {
    "reference_step_max_mm": 0.1,
    "reference_velocity_step_max_mm_s": 1.0,
    "wrench_step_max_n": 0.5,
    "torque_rate_ratio": 1.2,
}
LIVE_GOALS = {"command_to_torque_p50_ms": 5.0, "loss_to_hold_max_ms": 250.0}


def main(options: argparse.Namespace) -> int:
    """Changes hands so often, prints what jumped, and tells by the exit code if that was a lot."""
    if options.live:
        return _live(options)
    try:
        robot = robots.get(options.robot)
        each = -(-options.changes // len(takeover.SITUATIONS))
        measured = {}
        with progress_bar() as progress:
            bar = progress.add_task("takeover", total=each * len(takeover.SITUATIONS))
            for situation in takeover.SITUATIONS:
                progress.update(bar, description=situation)
                measured[situation] = takeover.measure(
                    robot, situation, each, options.seed, lambda: progress.advance(bar)
                )
    except RobotError as error:
        print(f"vla bench takeover: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vla bench takeover: stopped", file=sys.stderr)
        return 130
    worst = {name: max(found[name] for found in measured.values()) for name in GOALS}
    found = {f"{name}_{at}": row[name] for at, row in measured.items() for name in row}
    if options.json:
        changes = each * len(takeover.SITUATIONS)
        settings = {"robot": robot.name, "changes": changes, "seed": options.seed}
        print(figures.report({**worst, **found}, settings))
    else:
        _show(measured)
    return 0 if all(worst[name] <= most for name, most in GOALS.items()) else 1


def _live(options: argparse.Namespace) -> int:
    """Loses devices of running nodes so often, and says how long everything took."""
    try:
        with tempfile.TemporaryDirectory(prefix="vla_bench_") as folder, progress_bar() as progress:
            bar = progress.add_task("losses", total=options.rounds * len(live.LOSSES))
            found = live.run(
                options.rounds, Path(folder), environment(), domain(), lambda: progress.advance(bar)
            )
    except (live.TakeoverBenchError, OSError) as error:
        print(f"vla bench takeover: {error}", file=sys.stderr)
        return 1
    finally:
        shared_memory.remove_stale()
    if options.json:
        print(figures.report(found, {"rounds": options.rounds, "speed_m_s": live.SPEED}))
    else:
        table = Table(title="An operator's device, live")
        for heading in ("figure", "at most", "ms"):
            table.add_column(heading, justify="left" if heading == "figure" else "right")
        for name, value in found.items():
            table.add_row(name, f"{LIVE_GOALS.get(name, '')}", f"{value:.1f}")
        Console().print(table)
    return 0 if all(found[name] <= most for name, most in LIVE_GOALS.items()) else 1


def _show(measured: dict[str, dict[str, float]]) -> None:
    table = Table(title="Changes of hands: the largest of all")
    table.add_column("figure")
    for heading in ("at most", *measured):
        table.add_column(heading, justify="right")
    for name, most in GOALS.items():
        table.add_row(name, f"{most}", *(f"{found[name]:.3g}" for found in measured.values()))
    Console().print(table)
