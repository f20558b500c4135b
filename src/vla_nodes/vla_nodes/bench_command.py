# SPDX-License-Identifier: Apache-2.0
"""`vla bench control`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vla_nodes import figures
from vla_nodes.progress import progress_bar
from vla_sim import robots
from vla_sim.control_bench import page, plots, programs, table
from vla_sim.robots import RobotError


def main(options: argparse.Namespace) -> int:
    """Runs the table of the controller's figures in lockstep simulation and prints it."""
    names = tuple(options.robot or table.ROBOTS)
    try:
        results = _run(names, options.quick)
        text = figures.report(results.figures, _settings(names, options.quick, results))
        if options.out is not None:
            _write(options.out, names, text, results.figures)
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


def _show(numbers: dict[str, float], names: tuple[str, ...]) -> None:
    console = Console()
    for title, head, rows in page.tables(numbers, names):
        view = Table(title=title, title_justify="left")
        for index, heading in enumerate(head):
            view.add_column(heading, justify="left" if index == 0 else "right")
        for row in rows:
            view.add_row(*row)
        console.print(view)


def _run(names: tuple[str, ...], quick: bool) -> table.Results:
    with progress_bar() as progress:
        bar = progress.add_task("control", total=table.count_rows(names, quick))

        def show(row: str) -> None:
            progress.update(bar, description=row)
            progress.advance(bar)

        results = table.run_table(names, quick=quick, progress=show)
    for name in names:
        cost = programs.update_cost(
            len(robots.get(name).joint_names), cycles=5_000 if quick else 200_000
        )
        for figure, value in cost.items():
            results.figures[f"{figure}{table.suffix_of(name)}"] = value
    results.figures.update(programs.allocations())
    return results


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


def _write(folder: Path, names: tuple[str, ...], text: str, numbers: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(text + "\n", encoding="utf-8")
    (folder / "table.md").write_text(page.markdown(numbers, names), encoding="utf-8")
    for name in names:
        robot = robots.get(name)
        plots.draw_all(robot, table.home_pose(robot), folder)
