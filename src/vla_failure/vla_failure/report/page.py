# SPDX-License-Identifier: Apache-2.0
"""The report's page: one HTML file without scripts that links its plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vla_data.report.page import STYLE

from ..detectors import CONTROLS
from .plots import label
from .study import OURS

_MORE_STYLE = """
.plots { display: grid; grid-template-columns: 1fr 1fr; gap: 18px; margin: 20px 0; }
.plots figure { margin: 0; background: #fff; border: 1px solid var(--line); border-radius: 10px;
                padding: 14px; }
.plots figure.wide { grid-column: 1 / -1; }
.plots img { max-width: 100%; display: block; margin: 0 auto; }
.plots figcaption { color: var(--faint); font-size: 13px; margin-top: 8px; }
h2 { margin: 30px 0 10px; }
tr.ours td { font-weight: 600; }
tr.control td { color: #9a5b14; }
.table { overflow-x: auto; }
.note { background: #fff7e6; border: 1px solid #f0dcb0; border-radius: 10px; padding: 12px 16px; }
pre { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px;
      overflow-x: auto; font-size: 13px; }
@media (max-width: 900px) { .plots { grid-template-columns: 1fr; } }
"""
_WIDE = ("auc.png", "tasks.png")
_COLUMNS = (
    ("auc", "AUC"),
    ("auc_early", "at ¼"),
    ("auc_late", "at ¾"),
    ("auc_within_policy", "within policy"),
    ("auc_within_perturbation", "within perturbation"),
    ("average_precision", "average precision"),
    ("brier", "Brier"),
    ("false_alarm_rate", "false alarms"),
    ("detection_rate", "failures alarmed"),
    ("failures_flagged_in_time_rate", "in time"),
    ("timeouts_flagged_rate", "timeouts alarmed"),
    ("timeouts_flagged_in_time_rate", "in time"),
    ("false_alarm_rate_fixed", "false alarms, fixed band"),
)
_RECIPE = """\
# 1. Run the policy with SAFE's recording forks of openvla or openpi (github.com/vla-safe), at least
#    50 episodes of each of 12 tasks or more, features on, ten samples per inference on some.
vla failure import openpi ROLLOUTS data/rollouts/pi0      # or: openvla
# 2. The same as for the nano policy:
vla failure report data/rollouts/pi0 --out runs/report_pi0
vla failure fit data/rollouts/pi0 --out runs/detector_pi0
vla failure calibrate data/rollouts/pi0 runs/detector_pi0 --alpha 0.15
"""


def render_page(report: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """Renders the page.

    Args:
        report: As ``writing.make_report`` gives it.
        plots: Names of the plots beside it, and what each shows.

    Returns:
        HTML.
    """
    title = "Failure detection on tasks never seen"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{STYLE}{_MORE_STYLE}</style></head><body><main>",
        f"<h1>{title}</h1>",
        f'<p class="lead">{escape(_lead(report))} All figures are also in '
        '<a href="report.json">report.json</a>.</p>',
        f'<p class="note">{escape(_nano(report))}</p>',
        _tiles(report),
        *(f"<p>{escape(text)}</p>" for text in verdicts(report)),
        "<h2>Plots</h2>",
        _plots(plots),
        "<h2>Detectors and controls</h2>",
        "<p>On held-out tasks, mean over repeats. Alarms are those of the adaptive band, warm-up "
        "included; rates of alarms have exact 95 % intervals, of one repeat. Controls, in orange, "
        "do not look at the policy.</p>",
        _detectors(report),
        "<h2>Tasks</h2>",
        "<p>Compared are episodes that are still open at half of the median time to success; the "
        "others are counted. Whoever did not succeed counts as failed, timeouts too: these could "
        "have been saved to the end.</p>",
        _tasks(report),
        "<h2>Rollouts</h2>",
        _rollouts(report),
        "<h2>With a full-size policy</h2>",
        f"<pre>{escape(_RECIPE)}</pre>",
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def verdicts(report: Mapping[str, Any]) -> list[str]:
    """What the figures say, in words."""
    figures, alpha = report["figures"], report["settings"]["alpha"]
    name = "unseen_auc_margin_over_best_other"
    low, high, least = (figures[f"{name}_{end}"] for end in ("low", "high", "detectable"))
    if low > 0.0:
        found = "is better than the best other: the interval lies above zero."
    elif high < 0.0:
        found = "is worse than the best other: the interval lies below zero."
    else:
        found = (
            "only ties with the best other: the interval holds zero. A true margin of "
            f"{least:.3f} would have been found four times out of five."
        )
    others = sorted({fold["best_other"] for fold in report["folds"]})
    texts = [
        f"Ours {found} Margin {figures[name]:+.3f} ({low:+.3f} to {high:+.3f}, 95 %, bootstrap "
        f"over tasks and then episodes). The best other was named on seen tasks, fold by fold: "
        f"{', '.join(map(label, others))}.",
        f"False alarms per success with the adaptive band, from the first episode on: "
        f"{figures['unseen_false_alarm_rate']:.3f} (exact 95 % interval "
        f"{figures['unseen_false_alarm_rate_low']:.3f} to "
        f"{figures['unseen_false_alarm_rate_high']:.3f}; aimed at {alpha:g}), with 20 % of the "
        f"outcomes {figures['unseen_false_alarm_rate_feedback_20']:.3f}. The band of the seen "
        f"tasks drifts from {_rate(figures, 'seen_false_alarm_rate_fixed')} there to "
        f"{_rate(figures, 'unseen_false_alarm_rate_fixed')} here: its promise does not hold on "
        "tasks that it was not calibrated on.",
        _in_time(figures, "failures", "no later than 1 s after their onset"),
        _in_time(figures, "timeouts", "while the task's median time to success was left"),
    ]
    if "unseen_auc_severity" in figures:
        texts.append(
            "A control that is told what is disturbed, and by how much (severity), reaches "
            f"{figures['unseen_auc_severity']:.3f}, ours {figures['unseen_auc']:.3f}. Ours may "
            "tell no more than that; what is beyond would have to be told from the scene itself."
        )
    louder = [
        row["name"]
        for row in report["detectors"]
        if row["name"] in CONTROLS
        and row["auc"] >= figures["unseen_auc"]
        and row["name"] != "severity"
    ]
    if louder:
        texts.append(
            f"Warning: {', '.join(map(label, louder))} does no worse than ours without looking at "
            "the policy; what ours tells apart may be the same thing."
        )
    return texts


def _in_time(figures: Mapping[str, float], kind: str, when: str) -> str:
    """How many of a kind were flagged in time, and how many by chance."""
    name, count = f"{kind}_flagged_in_time", int(figures[f"unseen_{kind}_count"])
    if f"{name}_rate" not in figures:
        return f"{kind.capitalize()} flagged in time: unknown; there were {count} {kind}."
    low, high = (figures[f"{name}_margin_over_random_{end}"] for end in ("low", "high"))
    return (
        f"Of {count} {kind} flagged {when}: {_rate(figures, f'{name}_rate')}; a random alarm at "
        f"the same rate of false alarms: {_rate(figures, f'{name}_rate_random')}; difference "
        f"{figures[f'{name}_margin_over_random']:+.3f} ({low:+.3f} to {high:+.3f})."
    )


def _lead(report: Mapping[str, Any]) -> str:
    settings = report["settings"]
    count = sum(row[k] for row in report["rollouts"] for k in ("success", "failure", "timeout"))
    return (
        f"{count} episodes of {len(report['tasks'])} tasks; {settings['folds']} disjoint folds of "
        f"tasks, dealt {settings['repeats']} times, every task held out equally often. Everything, "
        "settings too, is fitted and chosen on the other tasks."
    )


def _nano(report: Mapping[str, Any]) -> str:
    widths = sorted({tuple(p["feature_shape"]) for p in report["settings"]["policies"]})
    shapes = ", ".join(" × ".join(map(str, shape)) for shape in widths)
    if max(shape[-1] for shape in widths) >= 1000:
        return f"Features of {shapes} (flow steps or tokens × horizon × width), as recorded."
    return (
        f"These are features of a nano policy ({shapes}: flow steps × horizon × width), a few "
        "million parameters, in simulation. Which detector is best, and by how much, need not "
        "carry over to a full-size one: the recipe for that is at the end."
    )


def _tiles(report: Mapping[str, Any]) -> str:
    figures = report["figures"]
    tiles = [
        (_interval(figures, "unseen_auc"), "AUC of ours on unseen tasks, 95 %"),
        (f"{figures['unseen_auc_best_other']:.3f}", "AUC of the best other"),
        (f"{figures['unseen_auc_clock']:.3f}", "AUC of a clock; 0.5 by construction"),
        (_interval(figures, "unseen_auc_margin_over_best_other"), "margin over the best other"),
        (f"{figures['unseen_false_alarm_rate']:.3f}", "false alarms per success, adaptive band"),
        *(
            (
                f"{figures[f'{kind}_flagged_in_time_rate']:.3f}",
                f"of {figures[f'unseen_{kind}_count']:.0f} {kind} flagged in time",
            )
            for kind in ("failures", "timeouts")
            if f"{kind}_flagged_in_time_rate" in figures
        ),
    ]
    shown = "".join(
        f'<div class="figure"><b>{escape(value)}</b><span>{escape(text)}</span></div>'
        for value, text in tiles
    )
    return f'<section class="figures">{shown}</section>'


def _plots(plots: Mapping[str, str]) -> str:
    shown = "".join(
        f'<figure{" class=wide" if name in _WIDE else ""}><img src="{name}" alt="{name}">'
        f"<figcaption>{escape(text)}</figcaption></figure>"
        for name, text in plots.items()
    )
    return f'<div class="plots">{shown}</div>'


def _detectors(report: Mapping[str, Any]) -> str:
    rows = sorted(report["detectors"], key=lambda row: -float(row["auc"]))
    return _table(
        ["detector", *(text for _, text in _COLUMNS)],
        [
            (
                "ours" if row["name"] == OURS else "control" if row["name"] in CONTROLS else "",
                [
                    label(row["name"]) + (" *" if row["needs_samples"] else ""),
                    *(_rate(row, key) for key, _ in _COLUMNS),
                ],
            )
            for row in rows
        ],
    ) + (
        '<p class="lead">* needs several samples per inference; judged on the episodes that have '
        "them.</p>"
    )


def _tasks(report: Mapping[str, Any]) -> str:
    heads = [
        *("task", "compared at, s", "successes", "failures", "timeouts"),
        *("left out: succeeded", "lost", "AUC of ours", "best other", "clock"),
    ]
    keys = ("successes", "failures", "timeouts", "succeeded_before", "failed_before")
    rows = [
        (
            "",
            [
                row["task"],
                f"{row['time_s']:.2f}",
                *(f"{row[key]:.0f}" for key in keys),
                *(_number(row.get(f"auc_{name}")) for name in (OURS, "best_other", "clock")),
            ],
        )
        for row in report["tasks"]
    ]
    return _table(heads, rows)


def _rollouts(report: Mapping[str, Any]) -> str:
    return _table(
        ["policy", "task", "successes", "failures", "timeouts"],
        [
            ("", [row["policy_id"], row["task"], *(str(row[k]) for k in _OUTCOMES)])
            for row in report["rollouts"]
        ],
        words=2,
    )


_OUTCOMES = ("success", "failure", "timeout")


def _table(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], words: int = 1) -> str:
    """A table whose first columns are words and the others numbers; rows have a class."""

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=number' if i >= words else ''}>{escape(value)}</{tag}>"
            for i, value in enumerate(values)
        )

    body = "".join(f'<tr class="{kind}">{cells("td", values)}</tr>' for kind, values in rows)
    return (
        f'<div class="table"><table><thead><tr>{cells("th", heads)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _rate(row: Mapping[str, Any], key: str) -> str:
    """A number, with its interval where it has one."""
    low, high = row.get(_bound(key, "low")), row.get(_bound(key, "high"))
    shown = _number(row.get(key))
    return shown if low is None or high is None else f"{shown} ({low:.2f}–{high:.2f})"


def _bound(key: str, end: str) -> str:
    """The name of a rate's bound; what tells rates apart stands last."""
    name, rate, which = key.partition("_rate")
    return f"{name}{rate}_{end}{which}"


def _interval(figures: Mapping[str, float], name: str) -> str:
    return f"{figures[name]:.3f} ({figures[f'{name}_low']:.3f} to {figures[f'{name}_high']:.3f})"
