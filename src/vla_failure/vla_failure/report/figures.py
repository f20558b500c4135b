# SPDX-License-Identifier: Apache-2.0
"""The figures of a study; ``docs/failure.md`` says what each means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from ..detectors import DETECTORS
from ..episodes import Episode, FloatArray, Outcome
from ..measures.alarms import Alarm, alarm_figures, in_time, rate_figures, times_to_success
from ..measures.brier import sequential_brier
from ..measures.intervals import auc_interval, auc_margin_interval, rate_margin_interval
from ..measures.ranking import Snapshot, macro_auc, macro_average_precision, snapshots_at
from .streams import FEEDBACK, Stream, adaptive_streams, fixed_streams, seen_false_alarms
from .study import BEST_OTHER, HEADLINE, OURS, Fold, Study

# Shares of the task's median time to success besides the headline's.
MOMENTS = {"early": 0.25, "late": 0.75}
RANDOM = "random"
_MARGIN = "unseen_auc_margin_over_best_other"
# Power of a comparison: chance to find a true margin with an interval above zero.
_POWER = 0.8


def with_bounds(*rates: str) -> tuple[str, ...]:
    """Names of rates, each followed by those of its bounds."""
    return tuple(f"{rate}{end}" for rate in rates for end in ("", "_low", "_high"))


# Figures of alarms that less feedback and the random control are compared by.
_COMPARED = with_bounds(
    "false_alarm_rate",
    "detection_rate",
    "failures_flagged_in_time_rate",
    "timeouts_flagged_rate",
    "timeouts_flagged_in_time_rate",
)
# The same with the band that stays as it is.
_FIXED = with_bounds("false_alarm_rate", "detection_rate", "timeouts_flagged_rate")
# Headlines that do without what tells policies or perturbations apart.
_WITHIN = {
    "auc_within_policy": Snapshot.auc_within_policies,
    "auc_within_perturbation": Snapshot.auc_within_groups,
}
# What may be flagged in time, and what figures call it.
_KINDS = {"failures": Outcome.FAILURE, "timeouts": Outcome.TIMEOUT}


@dataclass(frozen=True)
class Results:
    """A study and the alarms that its detectors gave.

    Attributes:
        study: What was compared.
        repeats: Folds of every repeat, in which each task was held out once.
        adaptive: Per share of feedback and detector the streams of every repeat.
        fixed: Per detector, likewise.
    """

    study: Study
    repeats: Sequence[Sequence[Fold]]
    adaptive: Mapping[str, Mapping[str, Sequence[Sequence[Stream]]]]
    fixed: Mapping[str, Sequence[Sequence[Stream]]]

    @staticmethod
    def of(folds: Sequence[Fold], study: Study) -> Results:
        """Runs the bands over the held-out episodes."""
        repeats = [[f for f in folds if f.repeat == r] for r in range(study.repeats)]
        names = [*study.all_candidates, BEST_OTHER]
        return Results(
            study,
            repeats,
            {
                level: {
                    name: [
                        [s for f in part for s in adaptive_streams(f.of(name), study, share)]
                        for part in repeats
                    ]
                    for name in names
                }
                for level, share in FEEDBACK.items()
            },
            {
                name: [
                    [s for f in part for s in fixed_streams(f.of(name), study)] for part in repeats
                ]
                for name in names
            },
        )

    @property
    def names(self) -> list[str]:
        """Detectors, controls, and the best other of every fold."""
        return list(self.fixed)

    def snapshots(self, name: str, share: float) -> list[dict[str, Snapshot]]:
        """Of every repeat, the open episodes at a share of the task's median time to success."""
        found = []
        for part in self.repeats:
            snapshots: dict[str, Snapshot] = {}
            for fold in part:
                judged = fold.of(name)
                snapshots |= snapshots_at(judged.episodes, judged.scores, share)
            found.append(snapshots)
        return found


def unseen_figures(results: Results) -> dict[str, float]:
    """Figures on tasks that were held out."""
    figures: dict[str, float] = {}
    for name in results.names:
        suffix = "" if name == OURS else f"_{name}"
        for figure, value in detector_figures(results, name).items():
            if figure.startswith("auc") or figure in ("average_precision", "brier"):
                figures[f"unseen_{figure}{suffix}"] = value
    runs = results.snapshots(OURS, HEADLINE)
    interval = auc_interval(runs)
    figures["unseen_auc_low"], figures["unseen_auc_high"] = interval.low, interval.high
    figures |= _margin(results)
    for kind in ("succeeded_before", "failed_before"):
        count = sum(getattr(snapshot, kind) for snapshot in runs[0].values())
        figures[f"unseen_left_out_{kind}_count"] = float(count)
    compared = sum(len(snapshot.failed) for snapshot in runs[0].values())
    failures = sum(int(snapshot.failed.sum()) for snapshot in runs[0].values())
    figures["unseen_compared_count"] = float(compared)
    figures["unseen_compared_failures_count"] = float(failures)
    timeouts = sum(int(snapshot.timed_out.sum()) for snapshot in runs[0].values())
    figures["unseen_compared_timeouts_count"] = float(timeouts)
    lost = [{task: s.without_timeouts() for task, s in run.items()} for run in runs]
    if any(s.auc() is not None for s in lost[0].values()):
        values = [macro_auc(run) for run in lost]
        figures["unseen_auc_without_timeouts"] = float(np.mean(values))
    return {**figures, **_alarms(results)}


def detector_figures(results: Results, name: str) -> dict[str, float]:
    """What one detector or control did on tasks that were held out, mean over repeats."""
    rows = []
    for snapshots, part in zip(results.snapshots(name, HEADLINE), results.repeats, strict=True):
        row = {
            "auc": macro_auc(snapshots),
            "average_precision": macro_average_precision(snapshots),
        }
        for figure, of in _WITHIN.items():
            if any(of(s) is not None for s in snapshots.values()):
                row[figure] = macro_auc(snapshots, of)
        brier = _brier(part, name)
        if brier is not None:
            row["brier"] = brier
        rows.append(row)
    for moment, share in MOMENTS.items():
        for row, snapshots in zip(rows, results.snapshots(name, share), strict=True):
            if any(s.auc() is not None for s in snapshots.values()):
                row[f"auc_{moment}"] = macro_auc(snapshots)
    figures = _mean(rows)
    adaptive = _mean([alarm_figures(_joined(s)) for s in results.adaptive[""][name]])
    fixed = _mean([alarm_figures(_joined(s)) for s in results.fixed[name]])
    return {
        **figures,
        **{figure: adaptive[figure] for figure in _COMPARED if figure in adaptive},
        **{f"{figure}_fixed": fixed[figure] for figure in _FIXED if figure in fixed},
    }


def task_figures(results: Results) -> dict[str, dict[str, float]]:
    """Per held-out task: who was compared, and how ours and others did there."""
    headline = {name: results.snapshots(name, HEADLINE) for name in results.names}
    found: dict[str, dict[str, float]] = {}
    for task, snapshot in sorted(headline[OURS][0].items()):
        row = {
            "time_s": snapshot.time,
            "successes": float((~snapshot.failed).sum()),
            "failures": float((snapshot.failed & ~snapshot.timed_out).sum()),
            "timeouts": float(snapshot.timed_out.sum()),
            "succeeded_before": float(snapshot.succeeded_before),
            "failed_before": float(snapshot.failed_before),
        }
        for name in (OURS, BEST_OTHER, "safe_mlp", "clock"):
            values = [run[task].auc() for run in headline.get(name, []) if task in run]
            known = [value for value in values if value is not None]
            if known:
                row[f"auc_{name}"] = float(np.mean(known))
        found[task] = row
    return found


def _margin(results: Results) -> dict[str, float]:
    """By how much ours is better than the best other, and how little could have been found."""
    margin = auc_margin_interval(
        results.snapshots(OURS, HEADLINE), results.snapshots(BEST_OTHER, HEADLINE)
    )
    error = (margin.high - margin.low) / (2.0 * norm.ppf(0.975))
    detectable = (norm.ppf(0.975) + norm.ppf(_POWER)) * error
    return {
        _MARGIN: margin.value,
        f"{_MARGIN}_low": margin.low,
        f"{_MARGIN}_high": margin.high,
        f"{_MARGIN}_detectable": float(detectable),
    }


def _alarms(results: Results) -> dict[str, float]:
    """Alarms of ours and of the random control, and how far the fixed band drifts."""
    study, figures = results.study, {}
    for name in (OURS, RANDOM):
        suffix = "" if name == OURS else f"_{name}"
        for level in FEEDBACK:
            found = _mean([alarm_figures(_joined(s)) for s in results.adaptive[level][name]])
            for figure in found if level + suffix == "" else _COMPARED:
                if figure in found:
                    prefix = "" if "_flagged_" in figure else "unseen_"
                    figures[f"{prefix}{figure}{level}{suffix}"] = found[figure]
            error = abs(found["false_alarm_rate"] - study.alpha)
            figures[f"unseen_false_alarm_rate_error{level}{suffix}"] = error
        fixed = _mean([alarm_figures(_joined(s)) for s in results.fixed[name]])
        figures |= {
            f"{'' if '_flagged_' in figure else 'unseen_'}{figure}_fixed{suffix}": fixed[figure]
            for figure in _FIXED
            if figure in fixed
        }
    for figure, value in _mean(
        [
            rate_figures("false_alarm_rate", seen_false_alarms(part, OURS, study))
            for part in results.repeats
        ]
    ).items():
        figures[f"seen_{figure}_fixed"] = value
    figures["unseen_false_alarm_rate_drift_fixed"] = (
        figures["unseen_false_alarm_rate_fixed"] - figures["seen_false_alarm_rate_fixed"]
    )
    for kind, outcome in _KINDS.items():
        ours, chance = (
            [flagged_in_time(streams, outcome) for streams in results.adaptive[""][name]]
            for name in (OURS, RANDOM)
        )
        if ours[0]:
            margin = rate_margin_interval(ours, chance)
            name = f"{kind}_flagged_in_time_margin_over_random"
            figures |= {name: margin.value, f"{name}_low": margin.low, f"{name}_high": margin.high}
    return figures


def flagged_in_time(streams: Sequence[Stream], outcome: Outcome) -> dict[str, FloatArray]:
    """Per task, 1 for every episode that was flagged in time, else 0; by the episodes' ids."""
    found = {}
    for stream in streams:
        needed = times_to_success(stream.alarms)
        judged = [
            in_time(alarm, needed)
            for alarm in sorted(stream.alarms, key=lambda a: a.episode.info.episode_id)
            if alarm.episode.info.outcome is outcome
        ]
        known = [float(hit) for hit in judged if hit is not None]
        if known:
            found[stream.task] = np.array(known)
    return found


def _brier(folds: Sequence[Fold], name: str) -> float | None:
    """Sequential Brier score, mean over held-out tasks."""
    values = []
    for fold in folds:
        judged = fold.of(name)
        by_task: dict[str, list[tuple[Episode, FloatArray]]] = {}
        for episode, scores in zip(judged.episodes, judged.scores, strict=True):
            by_task.setdefault(episode.info.task, []).append(
                (episode, judged.probability.of(scores))
            )
        for rows in by_task.values():
            found = sequential_brier([e for e, _ in rows], [p for _, p in rows])
            if found is not None:
                values.append(found)
    return float(np.mean(values)) if values else None


def _joined(streams: Sequence[Stream]) -> list[Alarm]:
    return [alarm for stream in streams for alarm in stream.alarms]


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of what all rows have."""
    common = [key for key in rows[0] if all(key in row for row in rows)]
    return {key: float(np.mean([row[key] for row in rows])) for key in common}


def needs_samples(name: str) -> bool:
    """Whether a detector needs several samples, which a robot does not draw."""
    return name in DETECTORS and DETECTORS[name].needs_samples
