# SPDX-License-Identifier: Apache-2.0
"""The figures of an evaluation, and a row per suite and task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from vla_sim.tasks import TASKS

from .intervals import wilson_interval
from .rollout import EpisodeResult


def figures(results: Sequence[EpisodeResult]) -> dict[str, float]:
    """The named figures of an evaluation.

    ``success_rate`` is the mean over tasks, ``success_rate_min_task`` the least of them;
    ``intention_rate`` is the share of episodes, of those whose named object is there, in which the
    first object approached is the named one; ``lift_rate`` is the share of episodes of tasks with a
    grasp in which any object rose more than 3 cm; ``wrong_object_rate`` is, among all episodes with
    any lift, the share in which the first object lifted is not the named one;
    ``false_completion_rate`` is, among the episodes in which the object was taken out of the
    fingers, the share that failed without touching it again.
    """
    rows = table(results)
    rates = [row["success_rate"] for row in rows]
    values = {
        "success_rate": sum(rates) / len(rates),
        "success_rate_min_task": min(rates),
        **{f"success_rate_{row['task']}": row["success_rate"] for row in rows},
    }
    there = [r for r in results if not r.absent]
    if there:
        values["intention_rate"] = _share(r.approached_object == r.named_object for r in there)
    lifting = [r for r in results if TASKS[r.task].grasps]
    if lifting:
        values["lift_rate"] = _share(r.lifted_object is not None for r in lifting)
    lifted = [r for r in results if r.lifted_object is not None]
    if lifted:
        values["wrong_object_rate"] = _share(r.lifted_object != r.named_object for r in lifted)
    dropped = [r for r in results if r.dropped]
    if dropped:
        values["false_completion_rate"] = _share(r.false_completion for r in dropped)
    return values


def table(results: Sequence[EpisodeResult]) -> list[dict[str, Any]]:
    """A row per suite and task, in the order in which they appear.

    Rates with their Wilson intervals (95 %); time to success, way of the tool, force and jerk as
    medians, the first two over the episodes that succeeded. What does not apply is None.
    """
    groups = dict.fromkeys((r.suite, r.task) for r in results)
    return [
        _row(suite, task, [r for r in results if (r.suite, r.task) == (suite, task)])
        for suite, task in groups
    ]


def _row(suite: str, task: str, group: list[EpisodeResult]) -> dict[str, Any]:
    wins = [r for r in group if r.success]
    there = [r for r in group if not r.absent]
    intended = sum(r.approached_object == r.named_object for r in there)
    dropped = [r for r in group if r.dropped]
    return {
        "suite": suite,
        "task": task,
        "episodes": len(group),
        "successes": len(wins),
        "success_rate": len(wins) / len(group),
        "success_wilson_95": wilson_interval(len(wins), len(group)),
        "intention_rate": intended / len(there) if there else None,
        "intention_wilson_95": wilson_interval(intended, len(there)) if there else None,
        "time_to_success_s": median(r.time_s for r in wins) if wins else None,
        "path_length_m": median(r.path_length_m for r in wins) if wins else None,
        "peak_force_n": median(r.peak_force_n for r in group),
        "seam_jerk": median(r.seam_jerk for r in group),
        "dropped": len(dropped),
        "false_completion_rate": _share(r.false_completion for r in dropped) if dropped else None,
        "rejected_chunks": sum(r.rejected for r in group),
    }


def _share(values: Iterable[bool]) -> float:
    flags = list(values)
    return sum(flags) / len(flags)
