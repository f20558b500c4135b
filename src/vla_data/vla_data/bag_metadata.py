# SPDX-License-Identifier: Apache-2.0
"""The ``metadata.yaml`` of a bag's folder, as rosbag2's version 9 has it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vla_data.qos import QosProfile

VERSION = 9
METADATA_FILE = "metadata.yaml"
ROS_DISTRO = "jazzy"  # whose layout and types the bags have
_ROOT = "rosbag2_bagfile_information"


class BagMetadataError(ValueError):
    """A file is not a bag's metadata."""


class TopicEntry(NamedTuple):
    """A topic.

    Attributes:
        name: Absolute name.
        type_name: ``<package>/msg/<Name>``.
        type_hash: RIHS01 hash.
        qos: Offered profiles.
        message_count: Messages in all files.
    """

    name: str
    type_name: str
    type_hash: str
    qos: Sequence[QosProfile]
    message_count: int


class FileEntry(NamedTuple):
    """One of the bag's files.

    Attributes:
        name: Its name in the folder.
        span_ns: Log time of the earliest and the latest message, ns; None without messages.
        message_count: Messages.
    """

    name: str
    span_ns: tuple[int, int] | None
    message_count: int


def information(
    files: Sequence[FileEntry],
    topics: Sequence[TopicEntry],
    custom_data: Mapping[str, str],
    ros_distro: str = ROS_DISTRO,
) -> dict[str, Any]:
    """What the metadata says, without the root key.

    Args:
        files: In the order of their recording.
        topics: All topics.
        custom_data: What else is known about the recording.
        ros_distro: Distribution whose layout and types the bag has.
    """
    spans = [file.span_ns for file in files if file.span_ns is not None]
    span = (min(s[0] for s in spans), max(s[1] for s in spans)) if spans else None
    return {
        "version": VERSION,
        "storage_identifier": "mcap",
        **_times(span, sum(file.message_count for file in files)),
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.type_name,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": [profile.to_dict() for profile in topic.qos],
                    "type_description_hash": topic.type_hash,
                },
                "message_count": topic.message_count,
            }
            for topic in topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file.name for file in files],
        "files": [
            {"path": file.name, **_times(file.span_ns, file.message_count)} for file in files
        ],
        "custom_data": dict(custom_data),
        "ros_distro": ros_distro,
    }


def _times(span_ns: tuple[int, int] | None, count: int) -> dict[str, Any]:
    # Made anew each time: YAML would write a shared value as an anchor, which rosbag2's reader does
    # not expect.
    start, end = span_ns if span_ns is not None else (0, 0)
    return {
        "duration": {"nanoseconds": end - start},
        "starting_time": {"nanoseconds_since_epoch": start},
        "message_count": count,
    }


def dump(document: Mapping[str, Any]) -> str:
    """A document as YAML."""
    return str(yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True))


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes the file: whole, or not at all.

    Args:
        folder: The bag's.
        content: As `information` gives it.

    Raises:
        OSError: If it cannot be written.
    """
    target = folder / METADATA_FILE
    draft = target.with_suffix(".yaml.tmp")
    with draft.open("w", encoding="utf-8") as stream:
        stream.write(dump({_ROOT: content}))
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(target)


def read(folder: Path) -> dict[str, Any] | None:
    """Reads the file.

    Returns:
        As `information` gives it; None if there is no such file.

    Raises:
        BagMetadataError: If it is not a bag's metadata.
    """
    file = folder / METADATA_FILE
    if not file.is_file():
        return None
    try:
        return dict(yaml.safe_load(file.read_text(encoding="utf-8"))[_ROOT])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise BagMetadataError(f"{file} is not a bag's metadata: {error}") from error
