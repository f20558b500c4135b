# SPDX-License-Identifier: Apache-2.0
"""Whether a bag is sound: all of it is read once and compared with what it says of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rosbags.serde import SerdeError

from vla_data import bag_metadata, mcap_file
from vla_data.bag_metadata import METADATA_FILE
from vla_data.definitions import DefinitionError
from vla_data.episode import EpisodeOutcome
from vla_data.episode_reader import EpisodeReader
from vla_data.episode_writer import file_entry, topic_counts
from vla_data.mcap_file import McapIndex

OK, WARNING, ERROR = "ok", "warning", "error"
EVENT_TYPE = "vla_msgs/msg/EpisodeEvent"
START, END = 0, 1  # EpisodeEvent.event


@dataclass
class _Seen:
    """What reading every message has shown."""

    last_ns: dict[str, int] = field(default_factory=dict)
    steps_back: Counter[str] = field(default_factory=Counter)
    undecoded: list[str] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)


def check_bag(path: str | Path) -> dict[str, Any]:
    """Checks a bag.

    Args:
        path: The bag's folder, or one MCAP file.

    Returns:
        JSON-ready: ``path``, ``sound`` (no check has found an error), ``message_count`` and
        ``checks``, each with ``name``, ``state`` (``ok``, ``warning`` or ``error``) and
        ``details``, one line each.

    Raises:
        EpisodeReadError: If there is no bag, or nothing in it can be read.
    """
    with EpisodeReader(path) as reader:
        scanned = [mcap_file.scan(file)[0] for file in reader.files]
        checks = [_index(reader.files, scanned), _chunks(scanned)]
        definitions = _definitions(reader)
        checks.append(definitions)
        seen = _read_all(reader, scanned, decode=definitions["state"] != ERROR)
        checks += [_times(seen), _messages(seen)]
        if reader.path.is_dir():
            checks.append(_metadata(reader, scanned))
        checks += [_episode(reader, seen), _drops(reader)]
        return {
            "path": str(path),
            "sound": all(check["state"] != ERROR for check in checks),
            "message_count": sum(index.message_count for index in scanned),
            "checks": checks,
        }


def _check(name: str, errors: list[str], warnings: list[str], fine: str) -> dict[str, Any]:
    state = ERROR if errors else WARNING if warnings else OK
    return {"name": name, "state": state, "details": [*errors, *warnings] or [fine]}


def _index(files: list[Path], scanned: list[McapIndex]) -> dict[str, Any]:
    errors = []
    for file, found in zip(files, scanned, strict=True):
        stated = mcap_file.read_index(file)
        if not stated.finished:
            errors += [f"{file.name}: {problem}" for problem in stated.problems[-1:]]
            continue
        problem = mcap_file.summary_problem(file)
        if problem:
            errors.append(f"{file.name}: {problem}")
        for name, value, true in (
            ("schemas", stated.schemas, found.schemas),
            ("channels", stated.channels, found.channels),
            ("chunks", _by_offset(stated), _by_offset(found)),
            ("message counts", _nonzero(stated.counts), _nonzero(found.counts)),
        ):
            if value != true:
                errors.append(f"{file.name}: the index states other {name} than the file holds")
    chunks = sum(len(index.chunks) for index in scanned)
    return _check("index", errors, [], f"agrees with {chunks} chunks in {len(files)} file(s)")


def _by_offset(index: McapIndex) -> dict[int, Any]:
    return {chunk.chunk_start_offset: vars(chunk) for chunk in index.chunks}


def _nonzero(counts: dict[int, int]) -> dict[int, int]:
    return {channel: count for channel, count in counts.items() if count}


def _chunks(scanned: list[McapIndex]) -> dict[str, Any]:
    errors = [f"{index.path.name}: {problem}" for index in scanned for problem in index.problems]
    return _check("chunks", errors, [], "all are decompressed, their checksums are right")


def _definitions(reader: EpisodeReader) -> dict[str, Any]:
    errors: list[str] = []
    warnings: list[str] = []
    try:
        store = reader.typestore
    except DefinitionError as error:
        return _check("definitions", [str(error)], [], "")
    for _, topic in sorted(reader.topics.items()):
        if topic.type_name not in store.fielddefs:
            errors.append(f"{topic.name}: no definition of {topic.type_name or 'its type'}")
        elif not topic.type_hash:
            warnings.append(f"{topic.name}: the type has no hash")
        elif store.hash_rihs01(topic.type_name) != topic.type_hash:
            errors.append(f"{topic.name}: {topic.type_name} is not what its hash says")
    return _check("definitions", errors, warnings, f"of {len(reader.topics)} topics, with hashes")


def _read_all(reader: EpisodeReader, scanned: list[McapIndex], *, decode: bool) -> _Seen:
    seen = _Seen()
    for index in scanned:
        for topic, type_name, log_ns, data in _messages_in_order(index):
            last = seen.last_ns.get(topic)
            if last is not None and log_ns < last:
                seen.steps_back[topic] += 1
            seen.last_ns[topic] = log_ns
            if decode and (last is None or type_name == EVENT_TYPE):
                try:
                    message = reader.typestore.deserialize_cdr(data, type_name)
                except SerdeError as error:
                    seen.undecoded.append(f"{topic} at {log_ns} ns: {error}")
                    continue
                if type_name == EVENT_TYPE:
                    seen.events.append(message)
    return seen


def _messages_in_order(index: McapIndex) -> Iterator[tuple[str, str, int, bytes]]:
    names = {
        channel.id: (channel.topic, index.schemas[channel.schema_id].name)
        for channel in index.channels.values()
        if channel.schema_id in index.schemas
    }
    with index.path.open("rb") as stream:
        for chunk in index.chunks:
            for channel_id, _, log_ns, _, data in mcap_file.read_chunk(stream, chunk):
                if channel_id in names:
                    yield (*names[channel_id], log_ns, bytes(data))


def _times(seen: _Seen) -> dict[str, Any]:
    errors = [
        f"{topic}: log time steps back {count} times" for topic, count in seen.steps_back.items()
    ]
    return _check("log times", errors, [], "never step back within a topic")


def _messages(seen: _Seen) -> dict[str, Any]:
    fine = f"the first of each of {len(seen.last_ns)} topics is decoded, and every episode event"
    return _check("messages", seen.undecoded, [], fine)


def _metadata(reader: EpisodeReader, scanned: list[McapIndex]) -> dict[str, Any]:
    stated = bag_metadata.read(reader.path)
    if stated is None:
        return _check(METADATA_FILE, [f"{METADATA_FILE} is missing"], [], "")
    true = bag_metadata.information([file_entry(index) for index in scanned], [], {})
    errors = [
        f"{name} is {stated.get(name)}, the files hold {true[name]}"
        for name in ("message_count", "starting_time", "duration", "files")
        if stated.get(name) != true[name]
    ]
    counts = topic_counts(scanned)
    topics = {each["topic_metadata"]["name"]: each for each in stated["topics_with_message_count"]}
    for name, topic in reader.topics.items():
        entry = topics.pop(name, None)
        if entry is None:
            errors.append(f"topic {name} is not named")
        elif (entry["topic_metadata"]["type"], entry["message_count"]) != (
            topic.type_name,
            counts[name],
        ):
            errors.append(f"topic {name} is stated with another type or count")
    errors += [f"topic {name} is in none of the files" for name in topics]
    listed = {Path(name).name for name in stated["relative_file_paths"]}
    for file in sorted({file.name for file in reader.path.glob("*.mcap")} - listed):
        errors.append(f"{file} is not named")
    return _check(METADATA_FILE, errors, [], "agrees with the files")


def _episode(reader: EpisodeReader, seen: _Seen) -> dict[str, Any]:
    if "episode_id" not in reader.custom_data:
        return _check("episode", [], ["the bag does not say of which episode it is"], "")
    info, outcome = reader.info, reader.outcome
    errors, warnings = [], []
    events = [event for event in seen.events if event.episode_id == info.episode_id]
    if not any(event.event == START for event in events):
        warnings.append(f"no event says that {info.episode_id} has started")
    ends = [event.outcome for event in events if event.event == END]
    if not ends:
        warnings.append(f"no event says how {info.episode_id} has ended")
    else:
        told = EpisodeOutcome.from_numbers(ends[-1].outcome, ends[-1].outcome_source)
        if (told.outcome, told.source) != (outcome.outcome, outcome.source):
            errors.append(
                f"the metadata says {outcome.outcome} ({outcome.source}), "
                f"the event {told.outcome} ({told.source})"
            )
    if outcome.outcome == "unknown":
        warnings.append("the outcome is unknown")
    return _check("episode", errors, warnings, f"{outcome.outcome}, says {outcome.source}")


def _drops(reader: EpisodeReader) -> dict[str, Any]:
    if reader.drops is None:
        return _check("drops", [], ["the bag does not say whether messages were lost"], "")
    warnings = [f"{topic}: {count} lost" for topic, count in reader.drops.items() if count]
    return _check("drops", [], warnings, "none")


def check_table(result: dict[str, Any]) -> RenderableType:
    """Lays the result of a check out for the terminal.

    Args:
        result: As `check_bag` gives it.
    """
    colours = {OK: "green", WARNING: "yellow", ERROR: "red"}
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    table.add_column(overflow="fold")
    for check in result["checks"]:
        state = Text(check["state"], style=colours[check["state"]])
        table.add_row(check["name"], state, "\n".join(check["details"]))
    verdict = Text("sound" if result["sound"] else "damaged or not finished")
    verdict.stylize("bold green" if result["sound"] else "bold red")
    return Group(
        Text.assemble(result["path"], f": {result['message_count']} messages, ", verdict), table
    )
