# SPDX-License-Identifier: Apache-2.0
"""What the plots of a report show, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..calibration import Shape, order_statistic
from ..episodes import FailureDetectionError, FloatArray, Outcome
from ..measures.ranking import Snapshot, balanced_accuracy
from .figures import RANDOM, Results
from .streams import Stream
from .study import BEST_OTHER, HEADLINE, OURS, Judged

# Drawn as lines: ours, what it is compared with, and what looks good for the wrong reason.
DRAWN = (OURS, BEST_OTHER, "safe_mlp", "clock", "proprioception", RANDOM)
_RECALLS = np.linspace(0.0, 1.0, 51)
_ALPHAS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)


def curves(results: Results) -> dict[str, Any]:
    """All of them, ready for JSON."""
    drawn = [name for name in DRAWN if name in results.names]
    return {
        "precision_recall": {
            "recall": _RECALLS.tolist(),
            "precision": {
                name: precision_curve(results.snapshots(name, HEADLINE)[0]).tolist()
                for name in drawn
            },
            "failures_share": _failures_share(results.snapshots(OURS, HEADLINE)[0]),
        },
        "balanced_accuracy": {
            name: accuracy_curve([fold.of(name) for fold in results.repeats[0]]) for name in drawn
        },
        "lead_times_s": {
            name: lead_times(results.adaptive[""][name][0]) for name in (OURS, RANDOM)
        },
        "false_alarm_rate_so_far": {
            label: running_rate(streams)
            for label, streams in (
                ("adaptive", results.adaptive[""][OURS][0]),
                ("adaptive_feedback_20", results.adaptive["_feedback_20"][OURS][0]),
                ("fixed", results.fixed[OURS][0]),
            )
        },
    }


def precision_curve(snapshots: Mapping[str, Snapshot]) -> FloatArray:
    """Best precision at each recall or more, mean over tasks."""
    found = []
    for snapshot in snapshots.values():
        if snapshot.auc() is None:
            continue
        order = np.argsort(-snapshot.scores, kind="stable")
        failed, scores = snapshot.failed[order], snapshot.scores[order]
        last_of_ties = np.append(np.diff(scores) != 0.0, True)
        hits = np.cumsum(failed)[last_of_ties]
        precision = hits / (np.flatnonzero(last_of_ties) + 1)
        recall = hits / failed.sum()
        best = np.maximum.accumulate(precision[::-1])[::-1]
        found.append(best[np.searchsorted(recall, _RECALLS - 1e-9)])
    return np.asarray(np.mean(found, axis=0))


def accuracy_curve(judged: Sequence[Judged]) -> list[dict[str, float]]:
    """Balanced accuracy and when failures are alarmed at, as the fixed band is made wider.

    Whoever did not succeed counts as failed. The time is a share of the task's; no alarm counts as
    its end.
    """
    points = []
    for alpha in _ALPHAS:
        alarmed, failed, times = [], [], []
        for part in judged:
            shape = Shape.of(part.select)
            try:
                quantile = order_statistic(
                    [shape.largest_excess(scores) for scores in part.calibrate], alpha
                )
            except FailureDetectionError:  # too few successes for so small an α
                break
            for episode, scores in zip(part.episodes, part.scores, strict=True):
                above = np.flatnonzero(shape.excesses(scores) > quantile)
                alarmed.append(len(above) > 0)
                failed.append(not episode.info.success)
                if not episode.info.success:
                    end = episode.info.time_limit
                    times.append(episode.times[above[0]] / end if len(above) else 1.0)
        else:
            points.append(
                {
                    "alpha": alpha,
                    "balanced_accuracy": balanced_accuracy(np.array(alarmed), np.array(failed)),
                    "detection_time_share": float(np.mean(times)),
                }
            )
    return points


def lead_times(streams: Sequence[Stream]) -> dict[str, Any]:
    """Of what did not succeed, how long before it was too late the alarm came, s.

    Of a failure that is from the alarm to the onset, negative where the alarm came after; of a
    timeout to the end of its time.
    """
    every = [a for s in streams for a in s.alarms]
    failures = [a for a in every if a.episode.info.outcome is Outcome.FAILURE]
    timeouts = [a for a in every if a.episode.info.outcome is Outcome.TIMEOUT]
    before_onset = [-a.delay for a in failures if a.delay is not None]
    left = [a.episode.end_time - a.time for a in timeouts if a.time is not None]
    return {
        "lead_s": before_onset,
        "failures": len(failures),
        "not_alarmed": len(failures) - len(before_onset),
        "left_s": left,
        "timeouts": len(timeouts),
        "timeouts_not_alarmed": len(timeouts) - len(left),
    }


def running_rate(streams: Sequence[Stream]) -> list[float]:
    """False alarms so far per success so far, mean over tasks; as long as half of them go on."""
    rates = [
        np.cumsum(hits) / np.arange(1, len(hits) + 1)
        for hits in (stream.false_alarms() for stream in streams)
        if len(hits)
    ]
    longest = int(np.median([len(rate) for rate in rates]))
    return [float(np.mean([r[i] for r in rates if len(r) > i])) for i in range(longest)]


def _failures_share(snapshots: Mapping[str, Snapshot]) -> float:
    """Precision of a coin: share of failures, mean over tasks."""
    return float(np.mean([s.failed.mean() for s in snapshots.values() if s.auc() is not None]))
