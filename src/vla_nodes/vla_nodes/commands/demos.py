# SPDX-License-Identifier: Apache-2.0
"""`vla demos`."""

from __future__ import annotations

import argparse
import sys
import time

from vla_nodes.commands import figures
from vla_nodes.commands.progress import progress_bar
from vla_sim import seeds, suites
from vla_sim.demonstrations import collect


def main(options: argparse.Namespace) -> int:
    """Makes demonstrations of each task in a folder of its own."""
    numbers: dict[str, float] = {}
    began = time.monotonic()
    try:
        tasks = options.task or list(suites.get(options.suite).tasks)
        chosen = seeds.seeds("demonstrations", options.episodes, options.first)
        with progress_bar() as progress:
            bar = progress.add_task("tasks", total=len(tasks))
            for task in tasks:
                progress.update(bar, description=task)
                manifest = collect(
                    task,
                    options.robot,
                    chosen,
                    options.folder / task,
                    suite=options.suite,
                    processes=options.workers,
                )
                numbers[f"episodes_{task}_count"] = manifest["episodes"]
                numbers[f"samples_{task}_count"] = manifest["samples"]
                numbers[f"expert_success_rate_{task}"] = manifest["expert_success_rate"]
                progress.advance(bar)
    except (ValueError, OSError) as error:
        print(f"vla demos: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"vla demos: stopped; finished tasks are kept in {options.folder}", file=sys.stderr)
        return 130
    numbers["duration_s"] = time.monotonic() - began
    if options.json:
        settings = {
            "robot": options.robot,
            "suite": options.suite,
            "tasks": tasks,
            "seeds": [chosen[0], chosen[-1]],
        }
        print(figures.report(numbers, settings))
    else:
        for name, value in numbers.items():
            print(f"{name}: {value:g}")
    return 0
