# SPDX-License-Identifier: Apache-2.0
"""`vla bench control`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vla_nodes.commands import figures
from vla_nodes.commands.progress import progress_bar
from vla_sim import position_drives, robots
from vla_sim.control_bench import page, plots, programs, soak, table
from vla_sim.robots import RobotError, RobotSpec


def main(options: argparse.Namespace) -> int:
    """Runs the table of the controller's figures in lockstep simulation and prints it."""
    try:
        soaked = options.soak is not None
        default = table.ROBOTS if soaked else (*table.ROBOTS, table.POSITION_ROBOT)
        chosen = [robots.get(name) for name in options.robot or default]
        if soaked:
            return _soak(chosen, options)
        names = tuple(robot.name for robot in chosen)
        results = _run(chosen, options.quick)
        text = figures.report(results.figures, _settings(names, options.quick, results))
        if options.out is not None:
            _write(options.out, chosen, text, results.figures)
    except (RobotError, OSError) as error:
        print(f"vla bench control: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vla bench control: stopped; nothing is kept of a table half done", file=sys.stderr)
        return 130
    if options.json:
        print(text)
    else:
        _show(results.figures, names)
        if results.unstable:
            print(f"unstable: {', '.join(results.unstable)}", file=sys.stderr)
    return 1 if results.unstable else 0


def _soak(chosen: list[RobotSpec], options: argparse.Namespace) -> int:
    """Soaks the arms, prints what was seen and tells by the exit code whether anything broke.

    Raises:
        RobotError: An arm takes no torques.
    """
    for robot in chosen:
        if position_drives.required(robot.arm):
            raise RobotError(f"the soak is of arms that take torques; {robot.name} takes positions")
    found: dict[str, float] = {}
    failures = {}
    with progress_bar() as progress:
        for robot in chosen:
            bar = progress.add_task(f"soak {robot.name}", total=options.soak)
            run = soak.Soak(robot, options.seed)
            run.run(options.soak, lambda now, bar=bar: progress.update(bar, completed=now))
            suffix = table.suffix_of(robot.name)
            found.update({f"{name}{suffix}": value for name, value in run.figures().items()})
            failures[robot.name] = run.audit.failures
    settings = {"robots": [r.name for r in chosen], "seconds": options.soak, "seed": options.seed}
    text = figures.report(found, {**settings, "failures_and_first_s": failures})
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "soak.json").write_text(text + "\n", encoding="utf-8")
    if options.json:
        print(text)
    else:
        _show(found, tuple(robot.name for robot in chosen))
    broken = any(count for checks in failures.values() for count, _ in checks.values())
    if broken:
        print(f"vla bench control: checks failed: {failures}", file=sys.stderr)
    return 1 if broken else 0


def _show(numbers: dict[str, float], names: tuple[str, ...]) -> None:
    console = Console()
    for title, head, rows in page.tables(numbers, names):
        view = Table(title=title, title_justify="left")
        for index, heading in enumerate(head):
            view.add_column(heading, justify="right" if index else "left", no_wrap=index == 0)
        for row in rows:
            view.add_row(*row)
        console.print(view)


def _run(chosen: list[RobotSpec], quick: bool) -> table.Results:
    with progress_bar() as progress:
        bar = progress.add_task("control", total=table.count_rows(chosen, quick))

        def show(row: str) -> None:
            progress.update(bar, description=row)
            progress.advance(bar)

        results = table.run_table(chosen, quick=quick, progress=show)
    for robot in _with_torques(chosen):
        cycles = 5_000 if quick else 200_000
        for figure, value in programs.update_cost(len(robot.joint_names), cycles).items():
            results.figures[f"{figure}{table.suffix_of(robot.name)}"] = value
    results.figures.update(programs.allocations())
    return results


def _with_torques(chosen: list[RobotSpec]) -> list[RobotSpec]:
    return [robot for robot in chosen if not position_drives.required(robot.arm)]


def _settings(names: tuple[str, ...], quick: bool, results: table.Results) -> dict[str, object]:
    return {
        "robots": list(names),
        "draws": table.draws(quick),
        "seeds": [0, table.draws(quick) - 1],
        "quick": quick,
        "unstable_runs": results.unstable,
        "rejected_chunks": results.rejected,
        "programs_found": programs.folder() is not None,
    }


def _write(folder: Path, chosen: list[RobotSpec], text: str, numbers: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = tuple(robot.name for robot in chosen)
    (folder / "figures.json").write_text(text + "\n", encoding="utf-8")
    (folder / "table.md").write_text(page.markdown(numbers, names), encoding="utf-8")
    for robot in _with_torques(chosen):
        plots.draw_all(robot, table.home_pose(robot), folder)
