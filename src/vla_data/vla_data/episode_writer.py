# SPDX-License-Identifier: Apache-2.0
"""Writes one episode as a rosbag2 folder with one MCAP file.

Messages are taken as raw CDR and written by a thread of their own, so that a slow disk never
blocks a subscription. What has been flushed, at least once per second, survives the death of
the process.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self, cast

import yaml
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter

from vla_data import mcap_file
from vla_data.definitions import Definitions
from vla_data.episode import EpisodeInfo, EpisodeOutcome
from vla_data.qos import QosProfile, dump_profiles

METADATA_VERSION = 9
METADATA_FILE = "metadata.yaml"
RESERVE_FILE = ".reserve"
RESERVE_BYTES = 1 << 20
MESSAGE_OVERHEAD_BYTES = 128
POLL_S = 0.05
MAX_STAMP_NS = 2**63 - 1


class EpisodeWriteError(OSError):
    """An episode cannot be written, or not any further; what was written is kept."""


class _Topic(NamedTuple):
    name: str
    type_name: str
    schema: bytes
    type_hash: str
    qos: tuple[QosProfile, ...]


class _Message(NamedTuple):
    topic: str
    data: bytes
    log_ns: int
    publish_ns: int


class _RecordFile:
    """A stream to which only whole records are written: a write that fails is taken back."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self._position = 0
        self._closed = False

    def tell(self) -> int:
        return self._position

    def write(self, data: bytes) -> int:
        try:
            mcap_file.write_all(self._descriptor, data)
        except OSError:
            os.ftruncate(self._descriptor, self._position)
            os.lseek(self._descriptor, self._position, os.SEEK_SET)
            raise
        self._position += len(data)
        return len(data)

    def flush(self) -> None:
        """Every write is already with the operating system."""

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                os.fsync(self._descriptor)
            finally:
                os.close(self._descriptor)


class EpisodeWriter:
    """Records the topics of one episode.

    The folder is readable by ``ros2 bag``, Foxglove and rosbags. Any thread may call any method.

    Args:
        path: Folder to create; its name becomes the bag's name.
        info: What is known about the episode now.
        definitions: Where message definitions come from.
        flush_period: Greatest time for which a message stays in memory only, s; at most 1.
        chunk_bytes: Size of a chunk before compression.
        queue_bytes: Bound of what may wait for the disk; beyond it messages are dropped and
            counted.
        drop_when_full: False makes `write` wait for the disk instead of dropping.
        ros_distro: Distribution whose layout and types the bag has.

    Raises:
        EpisodeWriteError: If the folder exists or cannot be written.
        ValueError: If a setting is out of range.
    """

    def __init__(
        self,
        path: str | Path,
        info: EpisodeInfo,
        *,
        definitions: Definitions | None = None,
        flush_period: float = 0.5,
        chunk_bytes: int = 1 << 20,
        queue_bytes: int = 256 << 20,
        drop_when_full: bool = True,
        ros_distro: str = "jazzy",
    ) -> None:
        if not 0.0 < flush_period <= 1.0:
            raise ValueError(f"flush_period {flush_period} s is not within 0 to 1 s")
        for name, value in (("chunk_bytes", chunk_bytes), ("queue_bytes", queue_bytes)):
            if value < 1:
                raise ValueError(f"{name} {value} is not positive")
        self.path = Path(path)
        self.file = self.path / f"{self.path.name}_0.mcap"
        self.info = info
        self._definitions = definitions if definitions is not None else Definitions()
        self._flush_period = flush_period
        self._wake_bytes = min(chunk_bytes, queue_bytes // 2)
        self._queue_bytes = queue_bytes
        self._drop_when_full = drop_when_full
        self._ros_distro = ros_distro

        self._topics: dict[str, _Topic] = {}
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._counts: Counter[str] = Counter()
        self._drops: Counter[str] = Counter()
        self._queue: deque[_Topic | _Message] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._closed = False
        self._error: Exception | None = None
        self._span_ns: tuple[int, int] | None = None

        try:
            self.path.mkdir(parents=True)
            self._reserve()
            self._stream = _RecordFile(self.file)
        except FileExistsError:
            raise EpisodeWriteError(f"{self.path} exists already and is left as it is") from None
        except OSError as error:
            raise EpisodeWriteError(f"cannot start an episode in {self.path}: {error}") from error
        self._mcap: Any = McapWriter(
            cast(IO[bytes], self._stream),
            chunk_size=chunk_bytes,
            compression=CompressionType.ZSTD,
            enable_crcs=True,
        )
        self._mcap.start(profile="ros2", library="vla_data")
        self._mcap.add_metadata("episode", info.to_custom_data())
        self._thread = threading.Thread(target=self._run, name=f"write {self.path.name}")
        self._thread.daemon = True
        self._thread.start()

    def _reserve(self) -> None:
        """Sets space aside so that index and metadata still fit once the disk is full."""
        descriptor = os.open(self.path / RESERVE_FILE, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        finally:
            os.close(descriptor)

    def add_topic(self, topic: str, type_name: str, qos: Sequence[QosProfile] = ()) -> None:
        """Declares a topic; recorded in the bag even if no message follows.

        Args:
            topic: Absolute name.
            type_name: ``<package>/msg/<Name>``.
            qos: Offered profiles of its publishers; default one `QosProfile`.

        Raises:
            DefinitionError: If the type's definition is not found.
            EpisodeWriteError: If writing has failed or the episode is closed.
            ValueError: If the name is relative, or the topic is known with another type.
        """
        if not topic.startswith("/"):
            raise ValueError(f"topic {topic!r} is not absolute")
        with self._changed:
            known = self._topics.get(topic)
        if known is not None:
            if known.type_name != type_name:
                raise ValueError(f"{topic} is recorded as {known.type_name}, not as {type_name}")
            return
        entry = _Topic(
            topic,
            type_name,
            self._definitions.full_text(type_name).encode(),
            self._definitions.type_hash(type_name),
            tuple(qos) or (QosProfile(),),
        )
        with self._changed:
            self._check_open()
            if topic not in self._topics:
                self._topics[topic] = entry
                self._queue.append(entry)

    def write(
        self,
        topic: str,
        type_name: str,
        cdr: bytes | bytearray | memoryview,
        stamp_ns: int,
        publish_ns: int | None = None,
    ) -> bool:
        """Takes a serialised message.

        Args:
            topic: Absolute name; declared with default QoS if it is new.
            type_name: ``<package>/msg/<Name>``.
            cdr: The message as it came over the wire, encapsulation header included.
            stamp_ns: Time of reception, ns of ROS time; the bag is ordered by it.
            publish_ns: Time of publication, ns; default `stamp_ns`.

        Returns:
            True if it will be written, False if it was dropped and counted as such.

        Raises:
            DefinitionError: If the type's definition is not found.
            EpisodeWriteError: If writing has failed or the episode is closed.
            ValueError: If the topic, type, time or data cannot be right.
        """
        data = bytes(cdr)
        if len(data) < 4 or data[0] != 0 or data[1] not in (0, 1):
            raise ValueError(f"message on {topic} has no CDR header")
        if not 0 <= stamp_ns <= MAX_STAMP_NS:
            raise ValueError(f"message on {topic} has the stamp {stamp_ns} ns")
        self.add_topic(topic, type_name)
        size = len(data) + MESSAGE_OVERHEAD_BYTES
        with self._changed:
            self._check_open()
            if not self._drop_when_full:
                self._changed.wait_for(lambda: self._has_room(size) or self._error is not None)
                self._check_open()
            if not self._has_room(size):
                self._drops[topic] += 1
                return False
            self._queue.append(
                _Message(topic, data, stamp_ns, stamp_ns if publish_ns is None else publish_ns)
            )
            self._queued_bytes += size
            self._counts[topic] += 1
            if self._queued_bytes >= self._wake_bytes:
                self._changed.notify_all()
        return True

    def count_drops(self, topic: str, count: int = 1) -> None:
        """Adds messages that were lost before they reached the writer.

        Args:
            topic: Absolute name.
            count: How many.
        """
        with self._changed:
            self._drops[topic] += count

    @property
    def drops(self) -> dict[str, int]:
        """Messages dropped so far by topic; every known topic is named."""
        with self._changed:
            return {topic: self._drops[topic] for topic in {*self._topics, *self._drops}}

    @property
    def counts(self) -> dict[str, int]:
        """Messages taken so far by topic."""
        with self._changed:
            return {topic: self._counts[topic] for topic in self._topics}

    @property
    def error(self) -> Exception | None:
        """Why writing has stopped; None while it has not."""
        with self._changed:
            return self._error

    def close(self, outcome: EpisodeOutcome | None = None) -> Path:
        """Writes what is left, the index and the metadata.

        Args:
            outcome: How the episode ended; unknown by default.

        Returns:
            The bag's folder.

        Raises:
            EpisodeWriteError: If anything could not be written; says what was kept.
        """
        with self._changed:
            if self._closed:
                return self.path
            self._closed = True
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        ended = (outcome if outcome is not None else EpisodeOutcome()).to_custom_data()
        (self.path / RESERVE_FILE).unlink(missing_ok=True)
        if self._error is None:
            try:
                self._finish(ended)
            except OSError as error:
                self._error = error
        if self._error is not None:
            self._rescue(ended, self._error)
        return self.path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.close(EpisodeOutcome("aborted", message=f"{type(error).__name__}: {error}"))

    def _has_room(self, size: int) -> bool:
        return self._queued_bytes == 0 or self._queued_bytes + size <= self._queue_bytes

    def _check_open(self) -> None:
        if self._error is not None:
            raise EpisodeWriteError(f"{self.file} cannot be written any further: {self._error}")
        if self._closed:
            raise EpisodeWriteError(f"{self.path} is closed")

    def _run(self) -> None:
        flushed = time.monotonic()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._closing or self._queued_bytes >= self._wake_bytes, POLL_S
                    )
                    batch, self._queue = self._queue, deque()
                    closing = self._closing
                while batch:
                    entry = batch.popleft()
                    self._put(entry)
                    if time.monotonic() - flushed >= self._flush_period:
                        self._mcap.flush()
                        flushed = time.monotonic()
                if time.monotonic() - flushed >= self._flush_period - POLL_S:
                    self._mcap.flush()
                    flushed = time.monotonic()
                if closing:
                    return
        except Exception as error:  # a writer that has died must not look alive
            with self._changed:
                self._error = error
                self._queue.clear()
                self._changed.notify_all()

    def _put(self, entry: _Topic | _Message) -> None:
        if isinstance(entry, _Topic):
            self._register(entry)
            return
        self._mcap.add_message(
            self._channels[entry.topic], entry.log_ns, entry.data, entry.publish_ns
        )
        first, last = self._span_ns or (entry.log_ns, entry.log_ns)
        self._span_ns = (min(first, entry.log_ns), max(last, entry.log_ns))
        with self._changed:
            self._queued_bytes -= len(entry.data) + MESSAGE_OVERHEAD_BYTES
            if not self._drop_when_full:
                self._changed.notify_all()

    def _register(self, topic: _Topic) -> None:
        if topic.type_name not in self._schemas:
            self._schemas[topic.type_name] = self._mcap.register_schema(
                topic.type_name, "ros2msg", topic.schema
            )
        self._channels[topic.name] = self._mcap.register_channel(
            topic.name,
            "cdr",
            self._schemas[topic.type_name],
            {
                "offered_qos_profiles": dump_profiles(topic.qos),
                "topic_type_hash": topic.type_hash,
            },
        )

    def _finish(self, outcome: Mapping[str, str]) -> None:
        self._mcap.flush()
        counts = dict(self._counts)
        for name, values in self._closing_metadata(outcome, counts, self._span_ns).items():
            self._mcap.add_metadata(name, dict(values))
        self._mcap.finish()
        self._stream.close()
        self._write_metadata_file(self._metadata(outcome, counts, self._span_ns))

    def _rescue(self, outcome: Mapping[str, str], cause: Exception) -> None:
        """Finishes what a failed write has left, and reports it."""
        self._stream.close()
        kept = mcap_file.read_index(self.file)
        names = {channel.id: channel.topic for channel in kept.channels.values()}
        counts = {names[channel_id]: count for channel_id, count in kept.counts.items()}
        for topic, taken in self._counts.items():
            self._drops[topic] += taken - counts.get(topic, 0)
        span = (
            None if kept.start_ns is None or kept.end_ns is None else (kept.start_ns, kept.end_ns)
        )
        state = "with index and metadata"
        try:
            mcap_file.finish(self.file, self._closing_metadata(outcome, counts, span))
            self._write_metadata_file(self._metadata(outcome, counts, span))
        except OSError:
            state = "without an index"
        raise EpisodeWriteError(
            f"{self.file} could not be written to its end: {cause}; "
            f"kept {sum(counts.values())} of {sum(self._counts.values())} messages {state}",
        ) from cause

    def _closing_metadata(
        self, outcome: Mapping[str, str], counts: Mapping[str, int], span: tuple[int, int] | None
    ) -> dict[str, Mapping[str, str]]:
        information = self._metadata(outcome, counts, span)["rosbag2_bagfile_information"]
        return {
            "outcome": outcome,
            "drops": {topic: str(count) for topic, count in sorted(self.drops.items())},
            "rosbag2": {"serialized_metadata": _dump(information)},
        }

    def _metadata(
        self, outcome: Mapping[str, str], counts: Mapping[str, int], span: tuple[int, int] | None
    ) -> dict[str, Any]:
        start, end = span if span is not None else (0, 0)

        def times() -> dict[str, Any]:
            # Made anew each time: YAML would write a shared value as an anchor, which rosbag2's
            # reader does not expect.
            return {
                "duration": {"nanoseconds": end - start},
                "starting_time": {"nanoseconds_since_epoch": start},
                "message_count": sum(counts.values()),
            }

        return {
            "rosbag2_bagfile_information": {
                "version": METADATA_VERSION,
                "storage_identifier": "mcap",
                **times(),
                "topics_with_message_count": [
                    {
                        "topic_metadata": {
                            "name": topic.name,
                            "type": topic.type_name,
                            "serialization_format": "cdr",
                            "offered_qos_profiles": [each.to_dict() for each in topic.qos],
                            "type_description_hash": topic.type_hash,
                        },
                        "message_count": counts.get(topic.name, 0),
                    }
                    for topic in self._topics.values()
                    if topic.name in self._channels
                ],
                "compression_format": "",
                "compression_mode": "",
                "relative_file_paths": [self.file.name],
                "files": [{"path": self.file.name, **times()}],
                "custom_data": {
                    **self.info.to_custom_data(),
                    **outcome,
                    "drops": json.dumps(dict(sorted(self.drops.items()))),
                },
                "ros_distro": self._ros_distro,
            }
        }

    def _write_metadata_file(self, metadata: Mapping[str, Any]) -> None:
        target = self.path / METADATA_FILE
        draft = target.with_suffix(".yaml.tmp")
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(_dump(metadata))
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(target)


def _dump(document: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True))
