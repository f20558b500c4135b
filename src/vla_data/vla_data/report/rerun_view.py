# SPDX-License-Identifier: Apache-2.0
"""What the page about an episode shows, as a recording for Rerun's viewer."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from vla_data import images
from vla_data.cameras import camera_topics
from vla_data.episode_reader import EpisodeReader, header_stamp_ns
from vla_data.report.history import ControllerHistory, read_controller_history
from vla_data.report.viewer import bands, charts, events
from vla_data.synchronisation import NS_PER_S

TIMELINE = "episode"
JPEG_QUALITY = 95
INK = {"measured": (42, 111, 196), "reference": (224, 138, 44)}
RADIUS = 0.006  # m, of the point that is the tool


class RerunMissingError(RuntimeError):
    """The package that writes the file is not installed."""


def write_rerun(bag: Path, path: Path) -> Path:
    """Writes the recording: pictures, signals, who had the arm and events on one timeline.

    Args:
        bag: The bag's folder, or one MCAP file.
        path: File to write, ``.rrd``.

    Returns:
        The file.

    Raises:
        RerunMissingError: If Rerun's package is not installed.
        EpisodeReadError: If the bag cannot be read.
        ObservationError: If a picture in it cannot.
        OSError: If the file cannot be written.
    """
    try:
        rerun = importlib.import_module("rerun")
    except ImportError as error:
        raise RerunMissingError(
            f"--rerun needs the package rerun-sdk, which is not part of the suite ({error}); "
            "install it beside the suite: .venv/bin/python -m pip install rerun-sdk (0.5 GB)"
        ) from None
    with EpisodeReader(bag) as reader:
        origin = reader.start_ns or 0
        history = read_controller_history(reader)
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = rerun.RecordingStream("vla", recording_id=reader.info.episode_id or bag.name)
        stream.save(path)
        _write_charts(rerun, stream, charts(reader, history, origin))
        _write_words(rerun, stream, bands(reader, history, origin), events(reader, origin))
        if history is not None:
            _write_tool(rerun, stream, history)
        _write_pictures(rerun, stream, reader, origin)
        stream.flush()
        stream.disconnect()
    return path


def _entity(rerun: Any, *parts: str) -> str:
    """Path of an entity whose parts may hold anything."""
    return "/".join(rerun.escape_entity_path_part(part) for part in parts)


def _write_charts(rerun: Any, stream: Any, shown: list[dict[str, Any]]) -> None:
    for chart in shown:
        times = rerun.TimeColumn(TIMELINE, duration=chart["time"])
        for line in chart["lines"]:
            values = np.array(line["values"], dtype=np.float64)  # None becomes NaN
            columns = rerun.Scalars.columns(scalars=values)
            entity = _entity(rerun, "signals", chart["title"], line["name"])
            rerun.send_columns(entity, [times], columns, recording=stream)


def _write_words(
    rerun: Any, stream: Any, shown: list[dict[str, Any]], told: list[dict[str, Any]]
) -> None:
    words = [
        (span["start"], band["name"], span["name"]) for band in shown for span in band["spans"]
    ]
    words += [(one["time"], "events", f"{one['name']} {one['text']}".strip()) for one in told]
    for time, of, text in sorted(words):
        stream.set_time(TIMELINE, duration=time)
        stream.log(of, rerun.TextLog(text))


def _write_tool(rerun: Any, stream: Any, history: ControllerHistory) -> None:
    """Where the tool and its reference were, in the base frame."""
    times = rerun.TimeColumn(TIMELINE, duration=history.time)
    for name, positions in (
        ("measured", history.position),
        ("reference", history.reference_position),
    ):
        entity = _entity(rerun, "tool", name)
        path = rerun.LineStrips3D([positions], colors=[INK[name]])
        stream.log(f"{entity}/path", path, static=True)
        look = rerun.Points3D.from_fields(colors=[INK[name]], radii=[RADIUS])
        stream.log(entity, look, static=True)
        columns = rerun.Points3D.columns(positions=positions)
        rerun.send_columns(entity, [times], columns, recording=stream)


def _write_pictures(rerun: Any, stream: Any, reader: EpisodeReader, origin: int) -> None:
    names = {topic: name for name, topic in camera_topics(reader).items()}
    for raw in reader.raw_messages(list(names)) if names else ():
        name = names[raw.topic]
        pixels = images.to_rgb(images.decode_message(reader.decode(raw), part=f"camera {name!r}"))
        stream.set_time(TIMELINE, duration=(header_stamp_ns(raw) - origin) / NS_PER_S)
        jpeg = images.encode_jpeg(pixels, JPEG_QUALITY)
        picture = rerun.EncodedImage(contents=jpeg, media_type="image/jpeg")
        stream.log(_entity(rerun, "cameras", name), picture)
