# SPDX-License-Identifier: Apache-2.0
"""The plots of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..detectors import CONTROLS
from ..measures.alarms import IN_TIME
from .study import BEST_OTHER, OURS

_INK, _OURS, _OTHER, _CONTROL = "#26323f", "#1b5fa7", "#7d93a8", "#d08a3e"
_COLOURS = {
    OURS: _OURS,
    BEST_OTHER: "#2b8a57",
    "safe_mlp": "#8250a0",
    "clock": _CONTROL,
    "proprioception": "#b3261e",
    "random": "#9aa5b1",
}
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#9aa5b1",
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6eaee",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "savefig.facecolor": "white",
}
_DPI = 110


def draw_plots(report: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Draws all plots of a report.

    Args:
        report: As ``writing.make_report`` gives it.
        folder: Receives PNG files.

    Returns:
        Names of the files and what each shows.
    """
    drawn = {
        "auc.png": (_auc, (8.6, 0.34 * len(report["detectors"]) + 1.4), _AUC_TEXT),
        "tasks.png": (_tasks, (8.6, 0.42 * len(report["tasks"]) + 1.5), _TASKS_TEXT),
        "precision_recall.png": (_precision_recall, (5.6, 4.4), _PRECISION_TEXT),
        "balanced_accuracy.png": (_balanced_accuracy, (5.6, 4.4), _ACCURACY_TEXT),
        "lead_times.png": (_lead_times, (5.6, 4.4), _LEAD_TEXT),
        "time_left.png": (_time_left, (5.6, 4.4), _LEFT_TEXT),
        "false_alarms.png": (_false_alarms, (5.6, 4.4), _ALARMS_TEXT),
    }
    ours = report["curves"]["lead_times_s"][OURS]
    for name, kind in (("lead_times.png", "failures"), ("time_left.png", "timeouts")):
        if not ours[kind]:  # nothing to draw
            del drawn[name]
    folder.mkdir(parents=True, exist_ok=True)
    for name, (draw, size, _) in drawn.items():
        with matplotlib.rc_context(_STYLE):
            figure = Figure(figsize=size, layout="constrained")
            FigureCanvasAgg(figure)
            draw(figure.subplots(), report)
            figure.savefig(folder / name, dpi=_DPI)
    return {name: text for name, (_, _, text) in drawn.items()}


_AUC_TEXT = (
    "AUC on held-out tasks at half of the task's median time to success (bar), at a quarter (◂) "
    "and three quarters (▸) of it. Orange: controls, which do not look at the policy. The line of "
    "ours is its 95 % interval. Hollow: needs several samples per inference, judged on episodes "
    "that have them."
)
_TASKS_TEXT = "AUC at half of the median time to success, task by task, each held out."
_PRECISION_TEXT = "Precision and recall at the same moment, mean over tasks; dotted: a coin."
_ACCURACY_TEXT = (
    "Balanced accuracy over whole episodes against the time of the alarm, as the fixed band is "
    "made wider. Whoever did not succeed counts as failed, and lasts longer than successes, so a "
    "clock may look good here."
)
_LEAD_TEXT = "From the alarm to the onset of the failure, adaptive band; shaded: flagged in time."
_LEFT_TEXT = (
    "What was left of the time of a timeout when the alarm came, adaptive band. Nothing was lost "
    "yet: an alarm is in time while the task's median time to success is left."
)
_ALARMS_TEXT = "False alarms per success so far on held-out tasks, from the first episode on."


def label(name: str) -> str:
    """A detector as people read it."""
    return {OURS: "fused (ours)", BEST_OTHER: "best other"}.get(name, name.replace("_", " "))


def _auc(axes: Axes, report: Mapping[str, Any]) -> None:
    rows = sorted(report["detectors"], key=lambda row: float(row["auc"]))
    places = np.arange(len(rows))
    for place, row in zip(places, rows, strict=True):
        name = row["name"]
        colour = _OURS if name == OURS else _CONTROL if name in CONTROLS else _OTHER
        hollow = row["needs_samples"]
        axes.barh(
            place,
            row["auc"] - 0.5,
            left=0.5,
            height=0.62,
            color="none" if hollow else colour,
            edgecolor=colour,
        )
        for moment, marker in (("early", "<"), ("late", ">")):
            if f"auc_{moment}" in row:
                axes.plot(row[f"auc_{moment}"], place, marker, color=_INK, markersize=4)
        if name == OURS:
            ends = [report["figures"][f"unseen_auc_{end}"] for end in ("low", "high")]
            axes.plot(ends, [place, place], color=_INK, linewidth=1.6)
    axes.set_yticks(places, [label(row["name"]) for row in rows])
    axes.axvline(0.5, color=_INK, linewidth=0.9)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("AUC")
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(right=1.02)


def _tasks(axes: Axes, report: Mapping[str, Any]) -> None:
    tasks = report["tasks"]
    places = np.arange(len(tasks))[::-1]
    shown = (OURS, BEST_OTHER, "safe_mlp", "clock")
    for offset, name in zip(np.linspace(0.24, -0.24, len(shown)), shown, strict=True):
        known = [
            (row[f"auc_{name}"], place + offset)
            for row, place in zip(tasks, places, strict=True)
            if f"auc_{name}" in row
        ]
        if known:
            x, y = zip(*known, strict=True)
            axes.plot(x, y, "o", color=_COLOURS[name], markersize=5, label=label(name))
    texts = [
        f"{row['task']}\n{row['failures'] + row['timeouts']:.0f} failed, "
        f"{row['successes']:.0f} did not"
        for row in tasks
    ]
    axes.set_yticks(places, texts, fontsize=8.5)
    axes.axvline(0.5, color=_INK, linewidth=0.9)
    axes.set_xlim(min(0.25, axes.get_xlim()[0]), 1.02)
    axes.set_xlabel("AUC")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.5 / len(tasks)), ncols=4)


def _precision_recall(axes: Axes, report: Mapping[str, Any]) -> None:
    found = report["curves"]["precision_recall"]
    for name, precision in found["precision"].items():
        axes.plot(found["recall"], precision, **_line(name))
    axes.axhline(found["failures_share"], color=_INK, linestyle=":", linewidth=1.0)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0.0, 1.0), ylim=(0.0, 1.02))
    axes.legend(loc="best")


def _balanced_accuracy(axes: Axes, report: Mapping[str, Any]) -> None:
    for name, points in report["curves"]["balanced_accuracy"].items():
        axes.plot(
            [point["detection_time_share"] for point in points],
            [point["balanced_accuracy"] for point in points],
            marker="o",
            markersize=3.5,
            **_line(name),
        )
    axes.axhline(0.5, color=_INK, linestyle=":", linewidth=1.0)
    axes.set(
        xlabel="mean time of the alarm at failures, share of the time limit",
        ylabel="balanced accuracy",
        xlim=(0.0, 1.02),
    )
    axes.legend(loc="best")


def _lead_times(axes: Axes, report: Mapping[str, Any]) -> None:
    found = report["curves"]["lead_times_s"]
    last = _histogram(axes, found, "lead_s", "failures", "not_alarmed")
    axes.axvspan(-IN_TIME, last, color="#e8f1e9", zorder=0)
    axes.axvline(0.0, ymax=0.8, color=_INK, linewidth=0.9)
    axes.set(xlabel="alarm before the onset, s", ylabel="failures")


def _time_left(axes: Axes, report: Mapping[str, Any]) -> None:
    found = report["curves"]["lead_times_s"]
    _histogram(axes, found, "left_s", "timeouts", "timeouts_not_alarmed")
    axes.set(xlabel="time left at the alarm, s", ylabel="timeouts")


def _histogram(axes: Axes, found: Mapping[str, Any], values: str, count: str, missed: str) -> float:
    """Bars of a second each; returns where the last one ends."""
    every = np.concatenate([np.asarray(f[values], float) for f in found.values()])
    ends = (float(every.min()), float(every.max())) if len(every) else (-1.0, 1.0)
    bins = np.arange(np.floor(ends[0]), np.ceil(ends[1]) + 1.0, 1.0)
    for name, row in found.items():
        axes.hist(
            row[values],
            bins=bins.tolist(),
            histtype="stepfilled" if name == OURS else "step",
            linewidth=1.6,
            color=_COLOURS[name],
            alpha=0.75 if name == OURS else 1.0,
            label=f"{label(name)}: {row[missed]} of {row[count]} not alarmed",
        )
    axes.set_ylim(0.0, 1.22 * axes.get_ylim()[1])
    axes.legend(loc="upper left")
    return float(bins[-1])


def _false_alarms(axes: Axes, report: Mapping[str, Any]) -> None:
    found = report["curves"]["false_alarm_rate_so_far"]
    texts: dict[str, tuple[str, str, str]] = {
        "adaptive": ("adaptive band", _OURS, "-"),
        "adaptive_feedback_20": ("adaptive, 20 % of the outcomes", _OURS, "--"),
        "fixed": ("band of the seen tasks", _CONTROL, "-"),
    }
    for name, (text, colour, style) in texts.items():
        rates: Sequence[float] = found[name]
        axes.plot(np.arange(1, len(rates) + 1), rates, style, color=colour, label=text)
    alpha = report["settings"]["alpha"]
    axes.axhline(alpha, color=_INK, linestyle=":", linewidth=1.0, label=f"α = {alpha:g}")
    axes.set(xlabel="successes of the task so far", ylabel="false alarms per success")
    axes.set_ylim(0.0, max(0.4, 1.4 * max(max(rates) for rates in found.values())))  # room for text
    axes.legend(loc="upper right")


def _line(name: str) -> dict[str, Any]:
    return {
        "color": _COLOURS[name],
        "label": label(name),
        "linewidth": 2.2 if name == OURS else 1.4,
    }
