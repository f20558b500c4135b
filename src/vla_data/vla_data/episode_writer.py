# SPDX-License-Identifier: Apache-2.0
"""Writes one episode as a rosbag2 folder with one MCAP file, or several of limited size.

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
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from vla_data import bag_metadata, mcap_writer
from vla_data.bag_metadata import FileEntry, TopicEntry
from vla_data.definitions import Definitions
from vla_data.episode import EpisodeInfo, EpisodeOutcome
from vla_data.image_compression import COMPRESSED_IMAGE, FORMATS, IMAGE, ImageCompressor
from vla_data.mcap_file import McapIndex, read_index
from vla_data.mcap_writer import McapWriter
from vla_data.qos import QosProfile, dump_profiles

RESERVE_FILE = ".reserve"
RESERVE_BYTES = 1 << 20
MESSAGE_OVERHEAD_BYTES = 128
POLL_S = 0.05
WAKE_BYTES = 8 << 20  # that wait for the disk before the writing thread is woken ahead of its time
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
    raw_image: bool = False  # that is still to be compressed


class EpisodeWriter:
    """Records the topics of one episode.

    The folder is readable by ``ros2 bag``, Foxglove and rosbags. Any thread may call any method.

    Args:
        path: Folder to create; its name becomes the bag's name.
        info: What is known about the episode now. The attribute `info` may be replaced until the
            bag is closed, as when notes are added.
        definitions: Where message definitions come from.
        flush_period: Greatest time for which a message stays in memory only, s; at most 1.
        chunk_bytes: Size of a chunk before compression.
        queue_bytes: Bound of what may wait for the disk; beyond it messages are dropped and
            counted.
        drop_when_full: False makes `write` wait for the disk instead of dropping.
        max_file_bytes: Size at which the next file is begun; 0 = never.
        max_file_s: Time after which the next file is begun, s; 0 = never.
        images: One of `FORMATS`. A raw image of 8 bits on ``<topic>`` becomes a compressed one on
            ``<topic>/<images>``, in the thread that writes.

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
        max_file_bytes: int = 0,
        max_file_s: float = 0.0,
        images: str = FORMATS[0],
    ) -> None:
        if not 0.0 < flush_period <= 1.0:
            raise ValueError(f"flush_period {flush_period} s is not within 0 to 1 s")
        for name, value in (("chunk_bytes", chunk_bytes), ("queue_bytes", queue_bytes)):
            if value < 1:
                raise ValueError(f"{name} {value} is not positive")
        for name, limit in (("max_file_bytes", max_file_bytes), ("max_file_s", max_file_s)):
            if not limit >= 0:
                raise ValueError(f"{name} {limit} is negative")
        self.path = Path(path)
        self.info = info
        self._definitions = definitions if definitions is not None else Definitions()
        self._flush_period = flush_period
        self._chunk_bytes = chunk_bytes
        self._wake_bytes = min(WAKE_BYTES, queue_bytes // 2)
        self._queue_bytes = queue_bytes
        self._drop_when_full = drop_when_full
        self._max_file_bytes = max_file_bytes
        self._max_file_ns = round(max_file_s * 1e9)

        self._compressor = (
            None if images == FORMATS[0] else ImageCompressor(images, self._definitions)
        )
        self._topics: dict[str, _Topic] = {}
        self._image_qos: dict[str, Sequence[QosProfile]] = {}
        self._channels: dict[str, int] = {}
        self._files: list[McapIndex] = []  # those that are finished
        self._began_ns: int | None = None  # log time of the file's first message
        self._counts: Counter[str] = Counter()
        self._drops: Counter[str] = Counter()
        self._queue: deque[_Topic | _Message] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._closed = False
        self._error: Exception | None = None

        try:
            self.path.mkdir(parents=True)
            self._reserve(RESERVE_BYTES)
            self._mcap = self._new_file(0)
        except FileExistsError:
            raise EpisodeWriteError(f"{self.path} exists already and is left as it is") from None
        except OSError as error:
            raise EpisodeWriteError(f"cannot start an episode in {self.path}: {error}") from error
        self._thread = threading.Thread(target=self._run, name=f"write {self.path.name}")
        self._thread.daemon = True
        self._thread.start()

    def _reserve(self, size: int) -> None:
        """Sets space aside so that index and metadata still fit once the disk is full."""
        descriptor = os.open(self.path / RESERVE_FILE, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
        self._reserved = size

    def _new_file(self, number: int) -> McapWriter:
        made = McapWriter(self.path / f"{self.path.name}_{number}.mcap", self._chunk_bytes)
        made.add_metadata("episode", self.info.to_custom_data())
        self._schemas: dict[str, int] = {}
        return made

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
        if self._compressor is not None and type_name == IMAGE:
            self._image_qos[topic] = qos  # what it will hold is known with its first image
        else:
            self._declare(topic, type_name, qos)

    def _declare(self, topic: str, type_name: str, qos: Sequence[QosProfile]) -> None:
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
        compressor, raw_image = self._compressor, False
        if compressor is not None and type_name == IMAGE:
            qos = self._image_qos.get(topic, ())
            raw_image = compressor.takes(data)
            if raw_image:
                topic, type_name = compressor.topic(topic), COMPRESSED_IMAGE
            self._declare(topic, type_name, qos)
        else:
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
            published = stamp_ns if publish_ns is None else publish_ns
            self._queue.append(_Message(topic, data, stamp_ns, published, raw_image))
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
        ended = outcome if outcome is not None else EpisodeOutcome()
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
            file = self._mcap.index.path
            raise EpisodeWriteError(f"{file} cannot be written any further: {self._error}")
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
        if self._file_is_full(entry.log_ns):
            self._rotate()
        if self._began_ns is None:
            self._began_ns = entry.log_ns
        data = self._compressed(entry) if entry.raw_image else entry.data
        if data is not None:
            self._mcap.add_message(
                self._channels[entry.topic], entry.log_ns, data, entry.publish_ns
            )
        needed = self._mcap.tail_bytes
        if 2 * needed > self._reserved:
            self._reserve(4 * needed)
        with self._changed:
            self._queued_bytes -= len(entry.data) + MESSAGE_OVERHEAD_BYTES
            if not self._drop_when_full:
                self._changed.notify_all()

    def _compressed(self, entry: _Message) -> bytes | None:
        """The image compressed; None, and counted as lost, if it cannot be."""
        try:
            return self._compressor.compress(entry.topic, entry.data) if self._compressor else None
        except Exception:  # whatever is wrong with one image, all else is still recorded
            with self._changed:
                self._counts[entry.topic] -= 1
                self._drops[entry.topic] += 1
            return None

    def _file_is_full(self, now_ns: int) -> bool:
        if self._began_ns is None:
            return False
        return (0 < self._max_file_bytes <= self._mcap.size) or (
            0 < self._max_file_ns <= now_ns - self._began_ns
        )

    def _rotate(self) -> None:
        full = self._mcap
        full.finish({})
        self._mcap = self._new_file(len(self._files) + 1)
        self._files.append(full.index)
        self._began_ns = None
        for name in self._channels:
            self._register(self._topics[name])

    def _register(self, topic: _Topic) -> None:
        if topic.type_name not in self._schemas:
            self._schemas[topic.type_name] = self._mcap.add_schema(topic.type_name, topic.schema)
        self._channels[topic.name] = self._mcap.add_channel(
            topic.name,
            self._schemas[topic.type_name],
            {
                "offered_qos_profiles": dump_profiles(topic.qos),
                "topic_type_hash": topic.type_hash,
            },
        )

    def _finish(self, outcome: EpisodeOutcome) -> None:
        self._mcap.flush()
        indexes = [*self._files, self._mcap.index]
        self._mcap.finish(self._closing_metadata(outcome, indexes))
        bag_metadata.write(self.path, self._information(outcome, indexes))

    def _rescue(self, outcome: EpisodeOutcome, cause: Exception) -> None:
        """Finishes what a failed write has left, and reports it."""
        with suppress(OSError):
            self._mcap.close()
        file = self._mcap.index.path
        indexes = [*self._files, read_index(file)]
        kept = topic_counts(indexes)
        for topic, taken in self._counts.items():
            self._drops[topic] += taken - kept[topic]
        state = "with index and metadata"
        try:
            mcap_writer.finish(file, self._closing_metadata(outcome, indexes))
            bag_metadata.write(self.path, self._information(outcome, indexes))
        except OSError:
            state = "without an index"
        raise EpisodeWriteError(
            f"{file} could not be written to its end: {cause}; "
            f"kept {sum(kept.values())} of {sum(self._counts.values())} messages {state}",
        ) from cause

    def _closing_metadata(
        self, outcome: EpisodeOutcome, indexes: Sequence[McapIndex]
    ) -> dict[str, Mapping[str, str]]:
        return {
            "episode": self.info.to_custom_data(),
            "outcome": outcome.to_custom_data(),
            "drops": {topic: str(count) for topic, count in sorted(self.drops.items())},
            "rosbag2": {
                "serialized_metadata": bag_metadata.dump(self._information(outcome, indexes))
            },
        }

    def _information(self, outcome: EpisodeOutcome, indexes: Sequence[McapIndex]) -> dict[str, Any]:
        counts = topic_counts(indexes)
        topics = [
            TopicEntry(topic.name, topic.type_name, topic.type_hash, topic.qos, counts[topic.name])
            for topic in self._topics.values()
            if topic.name in self._channels
        ]
        custom = {
            **self.info.to_custom_data(),
            **outcome.to_custom_data(),
            "drops": json.dumps(dict(sorted(self.drops.items()))),
        }
        return bag_metadata.information([file_entry(each) for each in indexes], topics, custom)


def file_entry(index: McapIndex) -> FileEntry:
    """What a bag's metadata says about a file."""
    start, end = index.start_ns, index.end_ns
    span = None if start is None or end is None else (start, end)
    return FileEntry(index.path.name, span, index.message_count)


def topic_counts(indexes: Sequence[McapIndex]) -> Counter[str]:
    """Number of messages by topic in some files."""
    counts: Counter[str] = Counter()
    for index in indexes:
        for channel_id, count in index.counts.items():
            counts[index.channels[channel_id].topic] += count
    return counts
