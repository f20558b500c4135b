# SPDX-License-Identifier: Apache-2.0
"""Reads an episode's bag, lazily, by time and topic, whether or not it was finished."""

from __future__ import annotations

import heapq
import json
import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import yaml
from mcap.records import ChunkIndex
from rosbags.serde import SerdeError

from vla_data import bag_metadata, mcap_file
from vla_data.bag_metadata import METADATA_FILE, BagMetadataError
from vla_data.definitions import typestore_from_texts
from vla_data.episode import EpisodeInfo, EpisodeOutcome
from vla_data.mcap_file import McapIndex
from vla_data.qos import QosProfile
from vla_data.synchronisation import NS_PER_S

STAMP_END = 12  # of a serialised message that begins with a header, bytes

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore


class EpisodeReadError(ValueError):
    """A bag, or a topic in it, cannot be read."""


@dataclass(frozen=True)
class TopicInfo:
    """What a bag says about a topic.

    Attributes:
        name: Absolute name.
        type_name: ``<package>/msg/<Name>``.
        type_hash: RIHS01 hash; empty if the bag does not state it.
        qos: Offered profiles.
        definition: Concatenated ``ros2msg`` text.
        count: Number of messages.
    """

    name: str
    type_name: str
    type_hash: str
    qos: tuple[QosProfile, ...]
    definition: str
    count: int


class RawMessage(NamedTuple):
    """A message as it is stored.

    Attributes:
        topic: Absolute name.
        type_name: ``<package>/msg/<Name>``.
        log_ns: Time of reception, ns.
        publish_ns: Time of publication, ns.
        data: CDR.
    """

    topic: str
    type_name: str
    log_ns: int
    publish_ns: int
    data: bytes


class EpisodeMessage(NamedTuple):
    """A decoded message.

    Attributes:
        topic: Absolute name.
        type_name: ``<package>/msg/<Name>``.
        log_ns: Time of reception, ns.
        publish_ns: Time of publication, ns.
        message: The message; its fields are named as in its definition.
    """

    topic: str
    type_name: str
    log_ns: int
    publish_ns: int
    message: Any


def header_stamp_ns(message: RawMessage) -> int:
    """Reads the stamp of a serialised message whose first field is a header, ns.

    Raises:
        EpisodeReadError: If the message is too short for one.
    """
    return _stamp_ns(message.topic, message.data)


def _stamp_ns(topic: str, data: bytes) -> int:
    try:
        sec, nanosec = struct.unpack_from("<iI" if data[1] else ">iI", data, 4)
    except (IndexError, struct.error) as error:
        raise EpisodeReadError(f"message on {topic} has no header: {error}") from error
    return int(sec) * NS_PER_S + int(nanosec)


class EpisodeReader(AbstractContextManager["EpisodeReader", None]):
    """An open bag.

    Types are taken from the bag itself. A bag that was never finished is read up to its last
    whole record.

    Args:
        path: The bag's folder, or one MCAP file.

    Attributes:
        path: As given.
        files: The MCAP files in order.
        finished: Whether every file has its index and the folder its metadata.
        problems: What is damaged, one line each.
        custom_data: The texts of the bag's metadata.

    Raises:
        EpisodeReadError: If there is no bag.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        information = self._information()
        self.files = self._find_files(information)
        self._indexes: list[McapIndex] = []
        for file in self.files:
            try:
                self._indexes.append(mcap_file.read_index(file))
            except (mcap_file.McapError, OSError) as error:
                raise EpisodeReadError(f"cannot read {file}: {error}") from error
        self.problems = [
            f"{index.path.name}: {problem}" for index in self._indexes for problem in index.problems
        ]
        self.finished = all(index.finished for index in self._indexes)
        if self.path.is_dir() and information is None:
            self.finished = False
            self.problems.append(f"{METADATA_FILE} is missing")
        self.custom_data = self._read_custom_data(information)
        self._typestore: Typestore | None = None
        self._stack = ExitStack()
        self._streams: dict[Path, BinaryIO] = {}

    def _information(self) -> dict[str, Any] | None:
        try:
            information = bag_metadata.read(self.path)
        except BagMetadataError as error:
            raise EpisodeReadError(str(error)) from error
        if information is None:
            return None
        if information.get("storage_identifier") != "mcap":
            raise EpisodeReadError(
                f"{self.path} is stored as {information.get('storage_identifier')!r}, not as mcap"
            )
        return information

    def _find_files(self, information: dict[str, Any] | None) -> list[Path]:
        if information is None:
            return bag_files(self.path)
        files = [self.path / Path(name).name for name in information["relative_file_paths"]]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise EpisodeReadError(f"{self.path} lacks {', '.join(missing)}")
        return files

    def _read_custom_data(self, information: dict[str, Any] | None) -> dict[str, str]:
        found: dict[str, str] = {}
        for index in self._indexes:
            found.update(index.metadata.get("episode", {}))
            found.update(index.metadata.get("outcome", {}))
            if "drops" in index.metadata:
                drops = {topic: int(n) for topic, n in index.metadata["drops"].items()}
                found["drops"] = json.dumps(drops)
        if information is not None:
            found.update(information.get("custom_data") or {})
        return found

    @property
    def info(self) -> EpisodeInfo:
        """What was known when the episode started."""
        return EpisodeInfo.from_custom_data(self.custom_data)

    @property
    def outcome(self) -> EpisodeOutcome:
        """How the episode ended; unknown if the bag does not say."""
        return EpisodeOutcome.from_custom_data(self.custom_data)

    @property
    def drops(self) -> dict[str, int] | None:
        """Messages lost by topic; None if the bag does not say."""
        text = self.custom_data.get("drops")
        return None if text is None else {str(k): int(v) for k, v in json.loads(text).items()}

    @property
    def start_ns(self) -> int | None:
        """Time of the earliest message, ns; None without messages."""
        return min((i.start_ns for i in self._indexes if i.start_ns is not None), default=None)

    @property
    def end_ns(self) -> int | None:
        """Time of the latest message, ns; None without messages."""
        return max((i.end_ns for i in self._indexes if i.end_ns is not None), default=None)

    @property
    def message_count(self) -> int:
        """Number of messages."""
        return sum(index.message_count for index in self._indexes)

    @property
    def size_bytes(self) -> int:
        """Size of the MCAP files."""
        return sum(file.stat().st_size for file in self.files)

    @cached_property
    def topics(self) -> dict[str, TopicInfo]:
        """Topic name to what the bag says about it."""
        found: dict[str, TopicInfo] = {}
        for index in self._indexes:
            for channel in index.channels.values():
                count = index.counts.get(channel.id, 0)
                if channel.topic in found:
                    count += found[channel.topic].count
                schema = index.schemas.get(channel.schema_id)
                profiles = yaml.safe_load(channel.metadata.get("offered_qos_profiles") or "[]")
                found[channel.topic] = TopicInfo(
                    name=channel.topic,
                    type_name=schema.name if schema else "",
                    type_hash=channel.metadata.get("topic_type_hash", ""),
                    qos=tuple(QosProfile.from_dict(profile) for profile in profiles),
                    definition=schema.data.decode() if schema else "",
                    count=count,
                )
        return found

    def topics_of_type(self, type_name: str) -> list[str]:
        """Lists the topics of a type that hold messages, sorted."""
        return sorted(
            topic.name
            for topic in self.topics.values()
            if topic.type_name == type_name and topic.count
        )

    def find_topic(self, name: str) -> str:
        """Finds a topic by its relative name, whatever namespace it was recorded in.

        Args:
            name: Relative name, e.g. ``cameras/scene/image_raw``, or an absolute one.

        Returns:
            The absolute name.

        Raises:
            EpisodeReadError: If there is none with messages, or more than one.
        """
        held = [topic.name for topic in self.topics.values() if topic.count]
        exact = [one for one in held if one in (name, f"/{name}")]
        found = exact or [one for one in held if one.endswith(f"/{name}")]
        if len(found) != 1:
            some = ", ".join(sorted(found)) or f"none; topics: {', '.join(sorted(held)) or 'none'}"
            raise EpisodeReadError(f"{self.path}: one topic {name!r} is needed, there is {some}")
        return found[0]

    @property
    def typestore(self) -> Typestore:
        """Reads and writes every type in the bag, from the bag's own definitions."""
        if self._typestore is None:
            texts = {
                schema.name: schema.data.decode()
                for index in self._indexes
                for schema in index.schemas.values()
                if schema.encoding == "ros2msg"
            }
            self._typestore = typestore_from_texts(texts)
        return self._typestore

    def raw_messages(
        self,
        topics: Collection[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> Iterator[RawMessage]:
        """Yields messages in order of reception, without decoding them.

        Only the chunks that are needed are read, one after the other.

        Args:
            topics: Which topics; all by default.
            start_ns: Earliest time, ns, inclusive.
            end_ns: Latest time, ns, exclusive.

        Yields:
            The messages.

        Raises:
            EpisodeReadError: If a topic is not in the bag or a chunk is damaged.
        """
        if topics is not None:
            known = self.topics
            unknown = sorted(set(topics) - set(known))
            if unknown:
                raise EpisodeReadError(
                    f"{self.path} has no topic {', '.join(unknown)}; it has "
                    f"{', '.join(sorted(known)) or 'none'}"
                )
        # Where one file ends and the next begins, messages may have come out of order.
        yield from heapq.merge(
            *(self._file_messages(index, topics, start_ns, end_ns) for index in self._indexes),
            key=lambda message: message.log_ns,
        )

    def header_stamps(
        self, topic: str, start_ns: int | None = None, end_ns: int | None = None
    ) -> list[int]:
        """Reads the stamps of a topic's messages, which begin with a header, in order of reception.

        Of a bag with an index no more is read than that; checksums are not compared.

        Args:
            topic: Absolute name.
            start_ns: Earliest time of reception, ns, inclusive.
            end_ns: Latest time of reception, ns, exclusive.

        Returns:
            The stamps, ns.

        Raises:
            EpisodeReadError: If a message has none or a chunk is damaged.
        """
        return [stamp_ns for _, stamp_ns in self.times_and_stamps(topic, start_ns, end_ns)]

    def times_and_stamps(
        self, topic: str, start_ns: int | None = None, end_ns: int | None = None
    ) -> list[tuple[int, int]]:
        """Reads the times of reception, ns, too; see `header_stamps`."""
        found: list[tuple[int, int]] = []
        for index in self._indexes:
            ids = [one.id for one in index.channels.values() if one.topic == topic]
            if any(not chunk.message_index_offsets for chunk in index.chunks):
                raws = self.raw_messages([topic], start_ns, end_ns)
                return [(raw.log_ns, header_stamp_ns(raw)) for raw in raws]
            stream = self._stream(index.path)
            try:
                found += [
                    (log_ns, _stamp_ns(topic, head))
                    for chunk in _within(index.chunks, start_ns, end_ns)
                    for channel_id in ids
                    if channel_id in chunk.message_index_offsets
                    for log_ns, head in mcap_file.read_heads(stream, chunk, channel_id, STAMP_END)
                    if (start_ns is None or log_ns >= start_ns)
                    and (end_ns is None or log_ns < end_ns)
                ]
            except mcap_file.McapError as error:
                raise EpisodeReadError(f"{index.path}: {error}") from error
        return sorted(found, key=lambda one: one[0])

    def decode(self, raw: RawMessage) -> Any:
        """Decodes one message by the bag's own definition of its type.

        Raises:
            EpisodeReadError: If it is damaged.
        """
        try:
            return self.typestore.deserialize_cdr(memoryview(raw.data), raw.type_name)
        except SerdeError as error:
            raise EpisodeReadError(
                f"{self.path}: message on {raw.topic} at {raw.log_ns} ns: {error}"
            ) from error

    def messages(
        self,
        topics: Collection[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> Iterator[EpisodeMessage]:
        """Yields decoded messages; see `raw_messages`."""
        for raw in self.raw_messages(topics, start_ns, end_ns):
            message = self.decode(raw)
            yield EpisodeMessage(raw.topic, raw.type_name, raw.log_ns, raw.publish_ns, message)

    def _file_messages(
        self,
        index: McapIndex,
        topics: Collection[str] | None,
        start_ns: int | None,
        end_ns: int | None,
    ) -> Iterator[RawMessage]:
        wanted = {
            channel.id: (channel.topic, index.schemas[channel.schema_id].name)
            for channel in index.channels.values()
            if (topics is None or channel.topic in topics) and channel.schema_id in index.schemas
        }
        chunks = [
            chunk
            for chunk in sorted(
                _within(index.chunks, start_ns, end_ns), key=lambda chunk: chunk.message_start_time
            )
            if (not chunk.message_index_offsets or wanted.keys() & chunk.message_index_offsets)
        ]
        stream = self._stream(index.path)
        # Chunks overlap in time where messages were logged out of order: a message may go out
        # once no unread chunk can hold an earlier one.
        waiting: list[tuple[int, int, int, int, bytes]] = []
        order = 0
        for position, chunk in enumerate(chunks):
            times: list[int] = []
            try:
                for channel_id, _, log_ns, publish_ns, data in mcap_file.read_chunk(stream, chunk):
                    times.append(log_ns)
                    if (
                        channel_id in wanted
                        and (start_ns is None or log_ns >= start_ns)
                        and (end_ns is None or log_ns < end_ns)
                    ):
                        order += 1
                        heapq.heappush(
                            waiting, (log_ns, order, channel_id, publish_ns, bytes(data))
                        )
            except mcap_file.McapError as error:
                raise EpisodeReadError(f"{index.path}: {error}") from error
            # A chunk whose first bytes are lost may read as an empty one.
            stated = (chunk.message_start_time, chunk.message_end_time)
            if (min(times, default=0), max(times, default=0)) != stated:
                raise EpisodeReadError(
                    f"{index.path}: chunk at byte {chunk.chunk_start_offset}: does not hold what "
                    "its index says"
                )
            last = position + 1 == len(chunks)
            horizon = None if last else chunks[position + 1].message_start_time
            while waiting and (horizon is None or waiting[0][0] < horizon):
                log_ns, _, channel_id, publish_ns, payload = heapq.heappop(waiting)
                topic, type_name = wanted[channel_id]
                yield RawMessage(topic, type_name, log_ns, publish_ns, payload)

    def _stream(self, path: Path) -> BinaryIO:
        if path not in self._streams:
            self._streams[path] = self._stack.enter_context(path.open("rb"))
        return self._streams[path]

    def close(self) -> None:
        """Closes the files."""
        self._stack.close()
        self._streams.clear()

    def __exit__(self, *_: object) -> None:
        self.close()


def _within(
    chunks: Iterable[ChunkIndex], start_ns: int | None, end_ns: int | None
) -> list[ChunkIndex]:
    """The chunks with messages between two times, as far as their ends say."""
    return [
        chunk
        for chunk in chunks
        if (start_ns is None or chunk.message_end_time >= start_ns)
        and (end_ns is None or chunk.message_start_time < end_ns)
    ]


def bag_files(path: Path) -> list[Path]:
    """The MCAP files of a bag, in order, whatever its metadata says.

    Args:
        path: The bag's folder, or one MCAP file.

    Raises:
        EpisodeReadError: If there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise EpisodeReadError(f"{path} does not exist")
    files = sorted(path.glob("*.mcap"), key=_file_number)
    # Whoever is killed just when the next file begins leaves an empty one.
    files = [file for file in files if file.stat().st_size] or files[:1]
    if not files:
        raise EpisodeReadError(f"{path} holds no MCAP file")
    return files


def _file_number(file: Path) -> tuple[int, str]:
    """Sorts ``bag_2.mcap`` before ``bag_10.mcap``."""
    number = file.stem.rpartition("_")[2]
    return (int(number) if number.isdecimal() else 0, file.name)
