# SPDX-License-Identifier: Apache-2.0
"""One self-contained page about one episode: film, signals and events on one time axis."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_data.episode_reader import EpisodeReader
from vla_data.report.history import ControllerHistory, Floats, read_controller_history
from vla_data.report.measures import EPISODE_EVENT, final_outcome, torque_ratio
from vla_data.report.plots import PHASE_COLOURS
from vla_data.report.video import write_film
from vla_data.rows import SOURCES
from vla_data.synchronisation import NS_PER_S, time_ns

CONTROL_OWNER, FAILURE_STATUS = "vla_msgs/msg/ControlOwner", "vla_msgs/msg/FailureStatus"
EVENTS = (
    "start",
    "end",
    "instruction",
    "grant",
    "pause",
    "resume",
    "stop",
    "reset",
    "fault",
    "note",
    "recording",
)
OWNER_COLOURS = {
    "none": "#eef0f2",
    "policy": "#cfe3f8",
    "recovery": "#fdebc8",
    "operator": "#e2d3f5",
}
POINTS = 1500  # of a line; more than a screen has pixels


def write_view(bag: Path, page: Path) -> Path:
    """Writes the page.

    Args:
        bag: The bag's folder, or one MCAP file.
        page: HTML file to write.

    Returns:
        The page.

    Raises:
        EpisodeReadError: If the bag cannot be read.
        ObservationError: If a picture in it cannot.
        OSError: If the page cannot be written.
    """
    with EpisodeReader(bag) as reader:
        info, outcome = reader.info, final_outcome(reader)
        origin = reader.start_ns or 0
        history = read_controller_history(reader)
        end = ((reader.end_ns or origin) - origin) / NS_PER_S
        document = {
            "start": 0.0,
            "end": max(end, 0.1),
            "film": _film(reader, info.instruction or info.episode_id, origin),
            "events": events(reader, origin),
            "bands": bands(reader, history, origin),
            "charts": charts(reader, history, origin),
        }
    title = info.instruction or info.episode_id
    parts = [info.episode_id, f"{outcome.outcome} (says {outcome.source})", f"{end:.1f} s"]
    # A "</script>" in a text would end the element that holds the data.
    data = json.dumps(document, allow_nan=False).replace("<", "\\u003c")
    template = files("vla_data.report").joinpath("viewer.html").read_text(encoding="utf-8")
    for name, text in (
        ("SUBTITLE", escape(" · ".join(part for part in parts if part))),
        ("TITLE", escape(title)),
        ("DATA", data),
    ):
        head, *rest = template.split(name)
        template = head + text + text.join(rest) if rest else head
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(template, encoding="utf-8")
    return page


def _film(reader: EpisodeReader, caption: str, origin: int) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory() as folder:
        film = write_film(reader, Path(folder) / "film.mp4", caption)
        if film is None:
            return None
        content = base64.b64encode(film.path.read_bytes()).decode("ascii")
        return {"base64": content, "start": (film.start_ns - origin) / NS_PER_S}


def events(reader: EpisodeReader, origin: int) -> list[dict[str, Any]]:
    """The events in order: ``time`` in s since ``origin`` (ns), ``name`` and ``text``."""
    topics = reader.topics_of_type(EPISODE_EVENT)
    found = []
    for each in reader.messages(topics) if topics else ():
        event = each.message
        number = int(event.event)
        name = EVENTS[number] if number < len(EVENTS) else f"event {number}"
        text = event.text or (event.instruction if number < 2 else "")
        time = (time_ns(event.header.stamp) - origin) / NS_PER_S
        found.append({"time": time, "name": name, "text": text})
    return sorted(found, key=lambda one: float(one["time"]))


def charts(
    reader: EpisodeReader, history: ControllerHistory | None, origin: int
) -> list[dict[str, Any]]:
    """The signals over the time in s since ``origin`` (ns)."""
    return [*_controller_charts(history), *_failure_charts(reader, origin)]


def bands(
    reader: EpisodeReader, history: ControllerHistory | None, origin: int
) -> list[dict[str, Any]]:
    """Who had the arm, and what the controller did, in s since ``origin`` (ns)."""
    found = []
    topics = reader.topics_of_type(CONTROL_OWNER)
    if topics:
        owners = [
            ((time_ns(each.message.header.stamp) - origin) / NS_PER_S, int(each.message.owner))
            for each in reader.messages(topics[:1])
        ]
        spans: list[dict[str, Any]] = []
        for time, owner in sorted(owners):
            name = SOURCES[owner] if owner < len(SOURCES) else f"owner {owner}"
            if spans and spans[-1]["name"] == name:
                spans[-1]["end"] = time
                continue
            if spans:
                spans[-1]["end"] = time
            ink = OWNER_COLOURS.get(name, "#d7dade")
            spans.append({"name": name, "start": time, "end": time, "ink": ink})
        found.append({"name": "owner", "spans": spans})
    if history is not None:
        phases = [
            {"name": span.phase, "start": span.start, "end": span.end}
            | {"ink": PHASE_COLOURS[span.phase]}
            for span in history.spans()
        ]
        found.append({"name": "phase", "spans": phases})
    return found


def _controller_charts(history: ControllerHistory | None) -> list[dict[str, Any]]:
    if history is None:
        return []
    found = []
    for axis, name in enumerate("xyz"):
        lines = [
            _line("reference", history.reference_position[:, axis], ink="#e08a2c", dash=True),
            _line("measured", history.position[:, axis]),
        ]
        found.append(_chart(f"tool {name} in {history.base_frame} / m", history.time, lines))
    errors = [_line("position / mm", history.position_error * 1e3)]
    errors.append(_line("orientation / deg", np.rad2deg(history.orientation_error)))
    found.append(_chart("error, reference to measured", history.time, errors, low=0.0))
    shares = 100.0 * torque_ratio(history) * np.sign(history.tau)
    torques = [_line(name, shares[:, i]) for i, name in enumerate(history.joint_names)]
    found.append(_chart("torque / % of limit", history.time, torques))
    return found


def _failure_charts(reader: EpisodeReader, origin: int) -> list[dict[str, Any]]:
    topics = reader.topics_of_type(FAILURE_STATUS)
    if not topics:
        return []
    told = list(reader.messages(topics[:1]))
    time = np.array([(each.log_ns - origin) / NS_PER_S for each in told])
    lines = [
        _line("score", np.array([each.message.score for each in told])),
        _line("threshold", np.array([each.message.threshold for each in told]), dash=True),
    ]
    return [_chart("failure score", time, lines, low=0.0)]


def _chart(
    title: str, time: Floats, lines: Sequence[dict[str, Any]], low: float | None = None
) -> dict[str, Any]:
    step = max(1, -(-len(time) // POINTS))
    return {
        "title": title,
        "low": low,
        "time": [round(float(t), 4) for t in time[::step]],
        "lines": [{**line, "values": _numbers(line["values"][::step])} for line in lines],
    }


def _line(
    name: str, values: NDArray[Any], *, ink: str | None = None, dash: bool = False
) -> dict[str, Any]:
    return {"name": name, "values": values, "ink": ink, "dash": dash}


def _numbers(values: NDArray[Any]) -> list[float | None]:
    """As JSON knows them: what is not finite is not there."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in values]
