# SPDX-License-Identifier: Apache-2.0
"""What a bag holds, as figures and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vla_data.episode_reader import EpisodeReader
from vla_data.synchronisation import NS_PER_S


def bag_info(path: str | Path) -> dict[str, Any]:
    """Summarises a bag.

    Args:
        path: The bag's folder, or one MCAP file.

    Returns:
        JSON-ready: ``path``, ``finished``, ``problems``, ``duration_s``, ``start_ns``,
        ``end_ns``, ``message_count``, ``size_bytes``, ``drops_count`` (None if the bag does not
        say), ``episode``, ``outcome``, ``outcome_source``, ``outcome_message`` and ``topics``,
        each with ``name``, ``type``, ``type_hash``, ``count``, ``rate_hz`` (None below two
        messages) and ``drops_count``.

    Raises:
        EpisodeReadError: If there is no bag.
    """
    with EpisodeReader(path) as reader:
        start, end = reader.start_ns, reader.end_ns
        duration = 0.0 if start is None or end is None else (end - start) / NS_PER_S
        drops = reader.drops
        info, outcome = reader.info, reader.outcome
        topics = [
            {
                "name": topic.name,
                "type": topic.type_name,
                "type_hash": topic.type_hash,
                "count": topic.count,
                "rate_hz": (topic.count - 1) / duration
                if topic.count > 1 and duration > 0.0
                else None,
                "drops_count": None if drops is None else drops.get(topic.name, 0),
            }
            for topic in sorted(reader.topics.values(), key=lambda topic: topic.name)
        ]
        return {
            "path": str(path),
            "finished": reader.finished,
            "problems": reader.problems,
            "duration_s": duration,
            "start_ns": start,
            "end_ns": end,
            "message_count": reader.message_count,
            "size_bytes": reader.size_bytes,
            "drops_count": None if drops is None else sum(drops.values()),
            "episode": {
                "episode_id": info.episode_id,
                "source": info.source,
                "task": info.task,
                "seed": info.seed,
                "instruction": info.instruction,
                "policy_id": info.policy_id,
                "versions": dict(info.versions),
                "calibrations": dict(info.calibrations),
                "notes": dict(info.notes),
            },
            "outcome": outcome.outcome,
            "outcome_source": outcome.source,
            "outcome_message": outcome.message,
            "topics": topics,
        }


def bag_table(info: dict[str, Any]) -> RenderableType:
    """Lays a summary out for the terminal.

    Args:
        info: As `bag_info` gives it.

    Returns:
        Something that rich prints.
    """
    head = Table.grid(padding=(0, 2))
    head.add_column(style="bold")
    head.add_column(overflow="fold")
    episode = info["episode"]
    colour = {"success": "green", "failure": "red", "aborted": "red"}.get(info["outcome"], "yellow")
    outcome = Text(info["outcome"], style=colour)
    outcome.append(f"  (says {info['outcome_source']})", style="dim")
    if info["outcome_message"]:
        outcome.append(f"  {info['outcome_message']}", style="dim")
    rows: list[tuple[str, RenderableType]] = [
        ("bag", info["path"]),
        ("episode", episode["episode_id"]),
        ("instruction", episode["instruction"] or "–"),
        ("task, seed", f"{episode['task'] or '–'}, {_or_dash(episode['seed'])}"),
        ("policy", episode["policy_id"] or "–"),
        ("software", _pairs(episode["versions"])),
        ("calibrations", _pairs(episode["calibrations"])),
        ("outcome", outcome),
        *[("note", note) for note in episode["notes"].values()],
        ("duration", f"{info['duration_s']:.2f} s"),
        ("messages", f"{info['message_count']}"),
        ("size", _size(info["size_bytes"])),
        ("drops", _count(info["drops_count"])),
    ]
    for name, value in rows:
        head.add_row(name, value)
    for problem in info["problems"]:
        head.add_row(Text("problem", style="red"), Text(problem, style="red"))

    table = Table(title_justify="left")
    table.add_column("topic", overflow="fold")
    table.add_column("type", overflow="fold")
    table.add_column("messages", justify="right")
    table.add_column("rate / Hz", justify="right")
    table.add_column("drops", justify="right")
    for topic in info["topics"]:
        rate = topic["rate_hz"]
        table.add_row(
            topic["name"],
            topic["type"],
            str(topic["count"]),
            "–" if rate is None else f"{rate:.1f}",
            _count(topic["drops_count"]),
        )
    return Group(head, table)


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "–"


def _or_dash(value: object) -> str:
    return "–" if value is None else str(value)


def _count(value: int | None) -> Text:
    if value is None:
        return Text("not stated", style="yellow")
    return Text(str(value), style="red" if value else "green")


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
