# SPDX-License-Identifier: Apache-2.0
"""The report's page: one HTML file without scripts that links the other files."""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import quote

STYLE = """
:root { --ink: #26323f; --faint: #5b6875; --line: #dfe4e9; --paper: #f5f7f9; --good: #1a7f37;
        --bad: #b3261e; --open: #8a6100; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 0; }
p.lead { color: var(--faint); margin: 0 0 24px; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 12px;
           margin-bottom: 28px; }
.figure { background: #fff; border: 1px solid var(--line); border-radius: 10px;
          padding: 12px 16px; }
.figure b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.figure span { color: var(--faint); font-size: 13px; }
table { border-collapse: collapse; width: 100%; background: #fff; border: 1px solid var(--line);
        border-radius: 10px; overflow: hidden; font-variant-numeric: tabular-nums; }
th, td { padding: 8px 12px; text-align: left; border-bottom: 1px solid var(--line); }
th { font-size: 13px; color: var(--faint); font-weight: 600; background: #fbfcfd; }
tr:last-child td { border-bottom: 0; }
td.number, th.number { text-align: right; }
a { color: #1b5fa7; text-decoration: none; }
a:hover { text-decoration: underline; }
.badge { display: inline-block; padding: 1px 10px; border-radius: 999px; font-size: 13px;
         font-weight: 600; color: #fff; background: var(--open); }
.badge.success { background: var(--good); }
.badge.failure, .badge.aborted { background: var(--bad); }
.overview { overflow-x: auto; margin-bottom: 36px; }
article { background: #fff; border: 1px solid var(--line); border-radius: 12px; padding: 20px;
          margin-bottom: 24px; }
article header { display: flex; gap: 12px; align-items: baseline; flex-wrap: wrap; }
article header small { color: var(--faint); }
.media { display: grid; grid-template-columns: 1.15fr 1fr 1fr; gap: 14px; margin: 16px 0; }
.media > * { min-width: 0; }
.media { align-items: start; }
.media video, .media img { width: 100%; border-radius: 8px; display: block; }
.media video { background: #181d24; }
.media img { border: 1px solid var(--line); }
.media figure { margin: 0; }
.media figcaption { color: var(--faint); font-size: 13px; margin-top: 4px; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 6px 28px;
     margin: 0; }
dl div { display: flex; justify-content: space-between; border-bottom: 1px solid var(--line); }
dt { color: var(--faint); }
dd { margin: 0 0 0 12px; text-align: right; white-space: nowrap;
     font-variant-numeric: tabular-nums; }
details { margin-top: 14px; }
summary { cursor: pointer; color: var(--faint); }
details table { margin-top: 8px; font-size: 13.5px; }
.problem { color: var(--bad); }
@media (max-width: 900px) { .media { grid-template-columns: 1fr; } }
"""


def render_page(report: dict[str, Any]) -> str:
    """Renders the page.

    Args:
        report: What `vla_data.report.summary.write_report` returns.

    Returns:
        HTML.
    """
    episodes = report["episodes"]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(report['title'])}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{escape(report['title'])}</h1>",
        '<p class="lead">All figures are also in <a href="report.json">report.json</a>.</p>',
        _figures(report["figures"]),
        _overview(episodes),
        *(_article(index, episode) for index, episode in enumerate(episodes, 1)),
        *(
            f'<p class="problem">{escape(bag["bag"])} cannot be read: {escape(bag["reason"])}</p>'
            for bag in report["unreadable"]
        ),
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """Formats a value for people; a dash where there is none."""
    if value is None:
        return "–"
    text = str(value) if isinstance(value, int) else f"{value:.{digits}f}"
    return f"{text} {unit}".strip()


def _figures(figures: dict[str, Any]) -> str:
    judged = figures["judged_count"]
    tiles = [
        (f"{figures['success_count']} of {judged}" if judged else "–", "episodes succeeded"),
        (number(figures["duration_s"], 1, "s"), "recorded"),
        (number(figures["tracking_position_rms_mm"], 1, "mm"), "tracking error, RMS"),
        (number(figures["tracking_orientation_rms_deg"], 2, "°"), "orientation error, RMS"),
        (number(figures["chunk_age_mean_ms"], 0, "ms"), "chunk age, mean"),
        (number(figures["torque_saturated_count"]), "reports at the torque limit"),
        (number(figures["real_time_factor_min"], 2), "real-time factor, lowest"),
        (number(figures["drops_count"]), "messages dropped"),
    ]
    shown = "".join(
        f'<div class="figure"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for value, name in tiles
    )
    return f'<section class="figures">{shown}</section>'


def _overview(episodes: list[dict[str, Any]]) -> str:
    rows = []
    for index, episode in enumerate(episodes, 1):
        tracking = episode["tracking"] or {}
        age = episode["latencies"]["chunk_age"] or {}
        cells = [
            f'<td class="number"><a href="#episode-{index}">{index}</a></td>',
            f"<td>{escape(episode['episode']['task'] or '–')}</td>",
            f'<td><a href="#episode-{index}">{escape(_instruction(episode))}</a></td>',
            f"<td>{_badge(episode['outcome'])}</td>",
            _cell(number(episode["duration_s"], 1, "s")),
            _cell(number(tracking.get("position_rms_mm"), 1, "mm")),
            _cell(number(age.get("mean_ms"), 0, "ms")),
            _cell(number(episode["drops_count"])),
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        '<section class="overview"><table><thead><tr><th class="number">#</th><th>task</th>'
        '<th>instruction</th><th>outcome</th><th class="number">duration</th>'
        '<th class="number">error, RMS</th><th class="number">chunk age</th>'
        f'<th class="number">drops</th></tr></thead><tbody>{"".join(rows)}</tbody></table>'
        "</section>"
    )


def _article(index: int, episode: dict[str, Any]) -> str:
    info = episode["episode"]
    seed = "" if info["seed"] is None else f", seed {info['seed']}"
    message = f" – {escape(episode['outcome_message'])}" if episode["outcome_message"] else ""
    problems = "".join(f'<p class="problem">{escape(text)}</p>' for text in episode["problems"])
    return f"""<article id="episode-{index}">
<header><h2>{index}. {escape(_instruction(episode))}</h2>{_badge(episode["outcome"])}
<small>{escape(info["episode_id"])}{seed}, says {escape(episode["outcome_source"])}{message}</small>
</header>{problems}
<div class="media">{_media(episode)}</div>
<dl>{_details(episode)}</dl>
{_topics(episode["topics"])}
</article>"""


def _media(episode: dict[str, Any]) -> str:
    files = episode["files"]
    parts = []
    if "film" in files:
        film = episode["film"]
        parts.append(
            f'<figure><video controls muted playsinline preload="none" '
            f'poster="{quote(files["thumbnail"])}" src="{quote(files["film"])}"></video>'
            f"<figcaption>{escape(', '.join(film['cameras']))}, {film['rate_hz']:.1f} Hz"
            "</figcaption></figure>"
        )
    for key, caption in (("tracking", "reference and measured pose"), ("torques", "torques")):
        if key in files:
            name = quote(files[key])
            parts.append(
                f'<figure><a href="{name}"><img loading="lazy" src="{name}" alt="{caption}"></a>'
                f"<figcaption>{caption}</figcaption></figure>"
            )
    return "".join(parts)


def _details(episode: dict[str, Any]) -> str:
    tracking = episode["tracking"] or {}
    torque = episode["torque"] or {}
    latencies = episode["latencies"]
    phases = episode["phases_s"] or {}
    chunks = episode["chunks"] or {}
    factor = episode["real_time_factor"] or {}
    peak = torque.get("peak_ratio")
    rows = [
        ("position error, RMS", number(tracking.get("position_rms_mm"), 1, "mm")),
        ("position error, max", number(tracking.get("position_max_mm"), 1, "mm")),
        ("orientation error, RMS", number(tracking.get("orientation_rms_deg"), 2, "°")),
        ("orientation error, max", number(tracking.get("orientation_max_deg"), 2, "°")),
        ("chunk age, mean / max", _pair(latencies["chunk_age"], "mean_ms", "max_ms")),
        (
            "observation to chunk, p50 / p95",
            _pair(latencies["observation_to_chunk"], "median_ms", "p95_ms"),
        ),
        ("vision and language, p50 / p95", _pair(latencies["encode"], "median_ms", "p95_ms")),
        ("action, p50 / p95", _pair(latencies["act"], "median_ms", "p95_ms")),
        ("chunks accepted / rejected", _slash(chunks, "accepted_count", "rejected_count")),
        ("torque limit active", _of(torque, "saturated_count")),
        ("torque-rate limit active", _of(torque, "rate_saturated_count")),
        ("wrench clip active", _of(torque, "wrench_saturated_count")),
        (
            "highest torque",
            "–" if peak is None else f"{100 * peak:.0f} % of {torque['peak_joint']}",
        ),
        ("tracking / braking", f"{_seconds(phases, 'tracking')} / {_seconds(phases, 'braking')}"),
        ("real-time factor, mean / min", _factor(factor)),
        ("faults", ", ".join(episode["faults"]) or "none"),
        ("policy", episode["episode"]["policy_id"] or "–"),
        ("size", f"{episode['size_bytes'] / 1e6:.1f} MB"),
    ]
    return "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows
    )


def _topics(topics: list[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(topic['name'])}</td><td>{escape(topic['type'])}</td>"
        f"{_cell(str(topic['count']))}{_cell(number(topic['rate_hz']))}"
        f"{_cell(number(topic['drops_count']))}</tr>"
        for topic in topics
    )
    return (
        f"<details><summary>{len(topics)} topics</summary><table><thead><tr><th>topic</th>"
        '<th>type</th><th class="number">messages</th><th class="number">rate / Hz</th>'
        f'<th class="number">drops</th></tr></thead><tbody>{rows}</tbody></table></details>'
    )


def _instruction(episode: dict[str, Any]) -> str:
    info = episode["episode"]
    return str(info["instruction"] or info["task"] or info["episode_id"])


def _badge(outcome: str) -> str:
    return f'<span class="badge {escape(outcome)}">{escape(outcome)}</span>'


def _cell(text: str) -> str:
    return f'<td class="number">{escape(text)}</td>'


def _pair(statistics: dict[str, float] | None, first: str, second: str) -> str:
    if statistics is None:
        return "–"
    return f"{statistics[first]:.0f} / {statistics[second]:.0f} ms"


def _slash(values: dict[str, int], first: str, second: str) -> str:
    return f"{values[first]} / {values[second]}" if values else "–"


def _of(torque: dict[str, Any], key: str) -> str:
    return f"{torque[key]} of {torque['samples_count']} reports" if torque else "–"


def _seconds(phases: dict[str, float], phase: str) -> str:
    return number(phases.get(phase), 1, "s")


def _factor(factor: dict[str, float]) -> str:
    return f"{factor['mean']:.2f} / {factor['min']:.2f}" if factor else "–"
