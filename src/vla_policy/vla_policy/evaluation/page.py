# SPDX-License-Identifier: Apache-2.0
"""A page of plots of an evaluation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_MEASURES = {
    "time_to_success_s": "time to success, s (median)",
    "path_length_m": "way of the tool, m (median)",
    "peak_force_n": "peak force, N (median)",
    "seam_jerk": "jerk at seams, m/s³ (median)",
}


def draw_page(rows: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Writes a page: rates with intervals per suite and task, and what the episodes cost.

    Args:
        rows: As ``evaluation_figures.table`` gives them.
        path: Of the picture.
        title: Above it.
    """
    # Read when matplotlib is imported: no display is needed.
    os.environ.setdefault("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    suites = list(dict.fromkeys(row["suite"] for row in rows))
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure = plt.figure(figsize=(11.0, 2.4 + 1.9 * len(suites) + 3.2), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1.9 * len(suites) + 1.0, 3.4])
    upper, lower = halves
    figure.suptitle(title)
    panels = upper.subplots(len(suites), 1, sharex=True, squeeze=False)[:, 0]
    for panel, suite in zip(panels, suites, strict=True):
        found = {row["task"]: row for row in rows if row["suite"] == suite}
        _rates(panel, [found.get(task) for task in tasks])
        panel.set_ylabel(f"{suite}\n%")
    panels[0].legend(loc="lower right", ncols=2, fontsize=8)
    panels[-1].set_xticks(range(len(tasks)), tasks)
    first = {row["task"]: row for row in rows if row["suite"] == suites[0]}
    measured = lower.subplots(1, len(_MEASURES))
    for panel, (name, label) in zip(measured, _MEASURES.items(), strict=True):
        values = [(first[task][name] if task in first else None) or 0.0 for task in tasks]
        panel.barh(range(len(tasks)), values, color="#6c8ebf")
        shown = tasks if panel is measured[0] else []
        panel.set_yticks(range(len(tasks)) if shown else [], shown)
        panel.invert_yaxis()
        panel.set_xlabel(label, fontsize=8)
    lower.suptitle(f"suite {suites[0]}", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _rates(panel: Any, found: list[dict[str, Any] | None]) -> None:
    """Success and intention of every task, side by side."""
    for offset, name, color, label in (
        (-0.2, "success", "#1b6ca8", "success"),
        (0.2, "intention", "#edae49", "right object approached"),
    ):
        places, heights, errors = [], [], []
        for place, row in enumerate(found):
            if row is None or row[f"{name}_rate"] is None:
                continue
            low, high = row[f"{name}_wilson_95"]
            rate = row[f"{name}_rate"]
            places.append(place + offset)
            heights.append(100 * rate)
            errors.append((100 * (rate - low), 100 * (high - rate)))
        if places:
            spread = list(zip(*errors, strict=True))
            panel.bar(places, heights, 0.36, yerr=spread, color=color, capsize=2, label=label)
    panel.set_ylim(0, 104)
    panel.grid(axis="y", alpha=0.3)
