# SPDX-License-Identifier: Apache-2.0
"""From rollouts on disk to a report on disk: ``report.json``, ``index.html`` and plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..episodes import Episode, Outcome
from .curves import curves
from .figures import Results, detector_figures, needs_samples, task_figures, unseen_figures
from .keeping import SCORES
from .page import render_page
from .plots import draw_plots
from .study import BEST_OTHER, Fold, Progress, Study, cross_validate

REPORT, PAGE = "report.json", "index.html"


def write_report(
    episodes: Sequence[Episode],
    bindings: Sequence[Mapping[str, Any]],
    study: Study,
    folder: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Runs a study on some rollouts and writes what it found.

    Args:
        episodes: Of all tasks.
        bindings: Of the policies that made them.
        study: What is compared.
        folder: Receives the report, and keeps scores: if it is broken off, the next call goes on.
        progress: Called with the name of every detector that is done in a fold.

    Returns:
        What is in ``report.json``.

    Raises:
        FailureDetectionError: Naming what is wrong or too few.
    """
    folds = cross_validate(episodes, study, progress, folder / SCORES)
    report = make_report(episodes, folds, study, bindings)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", "utf-8")
    plots = draw_plots(report, folder)
    (folder / PAGE).write_text(render_page(report, plots), encoding="utf-8")
    return report


def make_report(
    episodes: Sequence[Episode],
    folds: Sequence[Fold],
    study: Study,
    bindings: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Everything that a study found, ready for JSON."""
    results = Results.of(folds, study)
    return {
        "figures": unseen_figures(results),
        "settings": {
            "alpha": study.alpha,
            "folds": study.folds,
            "repeats": study.repeats,
            "seed": study.seed,
            "shares": asdict(study.shares),
            "policies": [dict(binding) for binding in bindings],
        },
        "rollouts": _rollouts(episodes),
        "detectors": [
            {
                "name": name,
                "needs_samples": needs_samples(name),
                **detector_figures(results, name),
            }
            for name in results.names
            if name != BEST_OTHER
        ],
        "tasks": [{"task": task, **row} for task, row in task_figures(results).items()],
        "folds": [
            {
                "repeat": fold.repeat,
                "unseen": list(fold.unseen),
                "best_other": fold.best_other,
                "chosen": {
                    name: {"settings": dict(judged.settings), "seen_auc": judged.seen_auc}
                    for name, judged in fold.judged.items()
                },
            }
            for fold in folds
        ],
        "curves": curves(results),
    }


def _rollouts(episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    """Outcomes per policy and task."""
    groups = sorted({(e.info.policy_id, e.info.task) for e in episodes})
    return [
        {
            "policy_id": policy,
            "task": task,
            **{
                str(outcome): sum(
                    e.info.outcome is outcome
                    for e in episodes
                    if (e.info.policy_id, e.info.task) == (policy, task)
                )
                for outcome in Outcome
            },
        }
        for policy, task in groups
    ]
