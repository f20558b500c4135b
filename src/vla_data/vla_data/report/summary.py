# SPDX-License-Identifier: Apache-2.0
"""The report folder: one JSON file, one page, and plots and a film per episode."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_data.episode_reader import EpisodeReader, EpisodeReadError
from vla_data.observation import ObservationError
from vla_data.report.history import read_controller_history
from vla_data.report.measures import measure_episode
from vla_data.report.page import render_page
from vla_data.report.plots import plot_torques, plot_tracking
from vla_data.report.video import write_film

REPORT_FILE = "report.json"
PAGE_FILE = "index.html"
LIBRARIES = ("av", "matplotlib", "mcap", "numpy", "rosbags")

Progress = Callable[[int, int, str], None]


def write_report(
    bag_dirs: Sequence[str | Path],
    out_dir: str | Path,
    *,
    title: str = "Recorded episodes",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes a report about recorded episodes.

    Args:
        bag_dirs: The bags, in the order in which they are to appear.
        out_dir: Folder for the report; made if needed, files in it are replaced.
        title: Heading of the page.
        progress: Called before each episode with its index, their number and its name.

    Returns:
        What ``report.json`` holds: ``figures`` over all episodes, ``episodes``, ``unreadable``
        and ``versions``. A bag that cannot be read is named there and skipped.

    Raises:
        OSError: If the folder cannot be written.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    episodes: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    names: set[str] = set()
    for index, bag in enumerate(Path(bag) for bag in bag_dirs):
        if progress is not None:
            progress(index, len(bag_dirs), bag.name)
        try:
            episodes.append(_episode(bag, folder, _file_name(bag, names)))
        except (EpisodeReadError, ObservationError) as error:
            unreadable.append({"bag": str(bag), "reason": str(error)})
    report = {
        "title": title,
        "figures": _figures(episodes),
        "episodes": episodes,
        "unreadable": unreadable,
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    (folder / REPORT_FILE).write_text(
        json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (folder / PAGE_FILE).write_text(render_page(report), encoding="utf-8")
    return report


def _file_name(bag: Path, taken: set[str]) -> str:
    base = re.sub(r"[^\w.-]+", "_", bag.name) or "bag"
    name = base
    while name in taken:
        name = f"{base}_{len(taken)}"
    taken.add(name)
    return name


def _episode(bag: Path, folder: Path, name: str) -> dict[str, Any]:
    with EpisodeReader(bag) as reader:
        history = read_controller_history(reader)
        measured = measure_episode(reader, history)
        episode = measured["episode"]
        caption = episode["instruction"] or episode["task"] or episode["episode_id"]
        files: dict[str, str] = {}
        if history is not None:
            detail = (
                f"{episode['episode_id']}  ·  {measured['outcome']}  ·  "
                f"{measured['duration_s']:.1f} s"
            )
            plot_tracking(history, folder / f"{name}_tracking.png", f"Tracking: {caption}", detail)
            plot_torques(history, folder / f"{name}_torques.png", f"Torques: {caption}", detail)
            files["tracking"] = f"{name}_tracking.png"
            files["torques"] = f"{name}_torques.png"
        film = write_film(reader, folder / f"{name}.mp4", caption)
        measured["film"] = None
        if film is not None:
            files["film"] = film.path.name
            files["thumbnail"] = film.thumbnail.name
            measured["film"] = {
                "cameras": list(film.cameras),
                "frames_count": film.frame_count,
                "rate_hz": film.rate_hz,
                "duration_s": film.duration,
            }
        measured["files"] = files
        return measured


def _figures(episodes: list[dict[str, Any]]) -> dict[str, float | int | None]:
    """Summarises over all episodes."""
    judged = [episode for episode in episodes if episode["outcome"] in ("success", "failure")]
    successes = [episode for episode in judged if episode["outcome"] == "success"]
    tracking = [episode["tracking"] for episode in episodes if episode["tracking"]]
    torque = [episode["torque"] for episode in episodes if episode["torque"]]
    ages = [
        episode["latencies"]["chunk_age"]
        for episode in episodes
        if episode["latencies"]["chunk_age"]
    ]
    factors = [episode["real_time_factor"] for episode in episodes if episode["real_time_factor"]]
    drops = [episode["drops_count"] for episode in episodes]
    return {
        "episodes_count": len(episodes),
        "judged_count": len(judged),
        "success_count": len(successes),
        "success_rate": len(successes) / len(judged) if judged else None,
        "duration_s": sum(episode["duration_s"] for episode in episodes),
        "tracking_position_rms_mm": _pooled_rms(tracking, "position_rms_mm"),
        "tracking_position_max_mm": max((t["position_max_mm"] for t in tracking), default=None),
        "tracking_orientation_rms_deg": _pooled_rms(tracking, "orientation_rms_deg"),
        "tracking_orientation_max_deg": max(
            (t["orientation_max_deg"] for t in tracking), default=None
        ),
        "torque_saturated_count": sum(t["saturated_count"] for t in torque) if torque else None,
        "chunk_age_mean_ms": float(
            np.average([a["mean_ms"] for a in ages], weights=[a["count"] for a in ages])
        )
        if ages
        else None,
        "chunk_age_max_ms": max((a["max_ms"] for a in ages), default=None),
        "real_time_factor_min": min((f["min"] for f in factors), default=None),
        "drops_count": None if not drops or None in drops else sum(drops),
    }


def _pooled_rms(parts: list[dict[str, float]], key: str) -> float | None:
    if not parts:
        return None
    squares = [part[key] ** 2 for part in parts]
    return float(np.sqrt(np.average(squares, weights=[part["samples_count"] for part in parts])))
