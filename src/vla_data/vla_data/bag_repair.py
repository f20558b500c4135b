# SPDX-License-Identifier: Apache-2.0
"""Makes a sound bag of what a damaged or unfinished one still holds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from vla_data import bag_metadata, mcap_file
from vla_data.bag_check import END, ERROR, EVENT_TYPE, check_bag
from vla_data.bag_metadata import BagMetadataError, TopicEntry
from vla_data.episode import EpisodeOutcome
from vla_data.episode_reader import EpisodeReader, EpisodeReadError, bag_files
from vla_data.episode_writer import file_entry
from vla_data.mcap_file import McapError, McapIndex
from vla_data.mcap_writer import McapWriter
from vla_data.synchronisation import NS_PER_S

SUFFIX = "_repaired"
STALE = ("drops", "rosbag2")  # metadata that was of the whole bag


def repair_bag(path: str | Path) -> dict[str, Any]:
    """Repairs a bag into a folder next to it; the original is not touched.

    Every whole chunk is copied as it is, the indexes and ``metadata.yaml`` are made anew. The new
    folder appears complete, by one rename, or not at all.

    Args:
        path: The bag's folder, or one MCAP file.

    Returns:
        JSON-ready: ``path``, ``repaired`` (the new folder; None if the bag is sound),
        ``problems``, ``message_count``, ``chunks_lost_count``, ``duration_s`` and
        ``tail_lost_s``: the time from the last message that is kept to the last that the damaged
        end held; None where the end is damaged and does not say.

    Raises:
        EpisodeReadError: If there is no bag, or nothing in it can be read.
        OSError: If the new folder exists or cannot be written.
    """
    path = Path(path)
    files = bag_files(path)
    try:
        checks = check_bag(path)["checks"]
        problems = [line for one in checks if one["state"] == ERROR for line in one["details"]]
    except EpisodeReadError as error:
        problems = [str(error)]
    scanned, silent = _scan(files, problems)
    if not problems:
        return _result(path, None, scanned, [], 0.0)
    target = path.with_name((path.name if path.is_dir() else path.stem) + SUFFIX)
    if target.exists():
        raise FileExistsError(f"{target} exists already and is left as it is")
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a repair that was interrupted
    part.mkdir()
    try:
        for number, index in enumerate(scanned):
            made = McapWriter(part / f"{target.name}_{number}.mcap")
            try:
                made.copy(index)
                made.finish({k: v for k, v in index.metadata.items() if k not in STALE})
            finally:
                made.close()
        _write_metadata(path, part)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return _result(path, target, scanned, problems, _tail_lost(scanned, silent))


def _scan(files: list[Path], problems: list[str]) -> tuple[list[McapIndex], bool]:
    """Reads what is whole; says whether the end is cut off and does not tell its times."""
    scanned = []
    silent = False
    for file in files:
        try:
            index, ended = mcap_file.scan(file)
        except McapError as error:
            if str(error) not in problems:
                problems.append(str(error))
            silent = True
            continue
        silent = not ended and index.data_end < file.stat().st_size and not index.lost_ns
        scanned.append(index)
    if not scanned:
        raise EpisodeReadError(f"nothing can be read: {'; '.join(problems)}")
    return scanned, silent


def _tail_lost(scanned: list[McapIndex], silent: bool) -> float | None:
    if silent:
        return None
    kept = max((index.end_ns for index in scanned if index.end_ns is not None), default=None)
    lost = max((last for index in scanned for _, last in index.lost_ns), default=None)
    if lost is None:
        return 0.0
    if kept is None:
        return None
    return max(0.0, (lost - kept) / NS_PER_S)


def _write_metadata(original: Path, made: Path) -> None:
    """Writes what the repaired files hold, and what the original said of its episode."""
    try:
        stated = bag_metadata.read(original) or {}
    except BagMetadataError:
        stated = {}
    with EpisodeReader(made) as reader:
        custom = {**reader.custom_data, **(stated.get("custom_data") or {})}
        if "outcome" not in custom:
            custom.update(_outcome(reader).to_custom_data())
        custom.pop("drops", None)  # what has been lost since is not counted in it
        custom["repaired_from"] = original.name
        topics = [
            TopicEntry(topic.name, topic.type_name, topic.type_hash, topic.qos, topic.count)
            for topic in reader.topics.values()
        ]
        files = [file_entry(mcap_file.read_index(file)) for file in reader.files]
    bag_metadata.write(made, bag_metadata.information(files, topics, custom))


def _outcome(reader: EpisodeReader) -> EpisodeOutcome:
    topics = reader.topics_of_type(EVENT_TYPE)
    for event in reader.messages(topics) if topics else ():
        message = event.message
        if message.event == END and message.episode_id == reader.info.episode_id:
            told = message.outcome
            return EpisodeOutcome.from_numbers(told.outcome, told.outcome_source, told.message)
    return EpisodeOutcome(message="the recording broke off")


def _result(
    path: Path,
    target: Path | None,
    scanned: list[McapIndex],
    problems: list[str],
    tail_lost: float | None,
) -> dict[str, Any]:
    starts = [index.start_ns for index in scanned if index.start_ns is not None]
    ends = [index.end_ns for index in scanned if index.end_ns is not None]
    return {
        "path": str(path),
        "repaired": None if target is None else str(target),
        "problems": problems,
        "message_count": sum(index.message_count for index in scanned),
        "chunks_lost_count": sum(len(index.lost_ns) for index in scanned),
        "duration_s": (max(ends) - min(starts)) / NS_PER_S if starts else 0.0,
        "tail_lost_s": tail_lost,
    }
