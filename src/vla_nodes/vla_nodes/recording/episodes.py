# SPDX-License-Identifier: Apache-2.0
"""What the recorder decides: which bag is open, when the episode may start, what was lost.

No rclpy. One thread (the executor's) calls everything; bags are finished in threads of their own,
so that a slow disk never holds up a subscription.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from vla_data.definitions import Definitions
from vla_data.episode import EpisodeInfo, EpisodeOutcome
from vla_data.episode_writer import MESSAGE_OVERHEAD_BYTES, EpisodeWriteError, EpisodeWriter
from vla_data.image_compression import FORMATS
from vla_data.qos import QosProfile


class SequenceWatch:
    """Counts messages lost between a topic's publishers and this process.

    The middleware numbers each publisher's messages without gaps, so a gap is a loss. It does not
    say whose number it is: of several publishers, it is the one whose last number is the nearest
    below. Where two are mistaken for each other, the sum of their losses is right all the same;
    as long as a publisher has not been heard of, a gap may be taken for its first message.
    """

    def __init__(self) -> None:
        """Nothing has been seen."""
        self._last: dict[str, list[int]] = {}  # by publisher; the one heard of last is the last

    def lost(self, topic: str, number: int | None, publishers: Callable[[], int]) -> int:
        """Messages lost just before this one.

        Args:
            topic: Absolute name.
            number: The publication's number; None when the middleware gives none.
            publishers: Says how many the topic has; asked only where numbers do not follow.
        """
        if number is None:
            return 0
        last = self._last.setdefault(topic, [])
        lower = [one for one in last if one < number]
        if number - 1 not in lower:
            count = max(1, publishers())
            if not lower or len(last) < count:  # the first of a publisher
                last.append(number)
                del last[: 1 - 2 * count]  # those of publishers that are gone, by and by
                return 0
        before = max(lower)
        last.remove(before)
        last.append(number)
        return number - before - 1


@dataclass
class Latched:
    """A message that its publisher keeps for those who come late, and what it speaks of."""

    type_name: str
    data: bytes
    subjects: frozenset[str]


class ReceptionTimes:
    """ROS time at which messages were received, from the system time that the middleware notes.

    Messages are taken in batches; between two batches ROS time is taken to run evenly.
    """

    def __init__(self) -> None:
        """Nothing has been taken."""
        self._system_ns = 0
        self._ros_ns = 0
        self._rate = 1.0
        self._last: dict[str, int] = {}

    def begin(self, system_ns: int, ros_ns: int) -> None:
        """Begins a batch.

        Args:
            system_ns: System time now, ns.
            ros_ns: ROS time now, ns.
        """
        passed = system_ns - self._system_ns
        self._rate = (ros_ns - self._ros_ns) / passed if self._system_ns and passed > 0 else 1.0
        if self._rate < 0.0:  # ROS time has jumped back
            self._rate = 0.0
            self._last.clear()
        self._system_ns, self._ros_ns = system_ns, ros_ns

    def of(self, topic: str, received_ns: int) -> int:
        """ROS time of a message's reception, ns; it does not step back within a topic.

        Args:
            topic: Absolute name.
            received_ns: System time of reception, ns; 0 = unknown.
        """
        age = max(0, self._system_ns - received_ns) if received_ns else 0
        stamp = max(0, self._ros_ns - round(self._rate * age), self._last.get(topic, 0))
        self._last[topic] = stamp
        return stamp


class Kept(NamedTuple):
    """A message that was received before its episode."""

    topic: str
    type_name: str
    data: bytes
    log_ns: int


class PreRoll:
    """The messages of the last seconds, in memory of bounded size."""

    def __init__(self, seconds: float, limit_bytes: int) -> None:
        """Args: seconds: How long (0 = nothing is kept). limit_bytes: Bound of what is kept."""
        self.size = 0
        self._span_ns = round(seconds * 1e9)
        self._limit = limit_bytes
        self._messages: deque[Kept] = deque()

    def add(self, message: Kept) -> None:
        """Keeps a message and forgets those that are too old or too many."""
        if not self._span_ns:
            return
        self._messages.append(message)
        self.size += len(message.data) + MESSAGE_OVERHEAD_BYTES
        while self._messages and (
            self.size > self._limit
            or not 0 <= message.log_ns - self._messages[0].log_ns <= self._span_ns
        ):
            self.size -= len(self._messages.popleft().data) + MESSAGE_OVERHEAD_BYTES

    def take(self, now_ns: int) -> list[Kept]:
        """Hands out what is kept, oldest first, and keeps nothing any more."""
        messages = [one for one in self._messages if 0 <= now_ns - one.log_ns <= self._span_ns]
        self._messages.clear()
        self.size = 0
        return sorted(messages, key=lambda one: one.log_ns)


class DiskWatch:
    """How much space is left where the bags are."""

    def __init__(self, folder: Path, warn_bytes: int, stop_bytes: int) -> None:
        """Args: folder: On the disk. warn_bytes, stop_bytes: Free space below which ...

        Raises:
            ValueError: The second limit is above the first.
        """
        if stop_bytes > warn_bytes:
            raise ValueError(f"disk_stop_bytes {stop_bytes} is above disk_warn_bytes {warn_bytes}")
        self._folder = folder
        self._warn, self._stop = warn_bytes, stop_bytes

    def free_bytes(self) -> int:
        """Free space, bytes."""
        return shutil.disk_usage(self._folder).free

    def warning(self) -> str:
        """What is to be said about the space; empty = enough."""
        free = self.free_bytes()
        return self._text(free, self._warn) if free < self._warn else ""

    def problem(self) -> str:
        """Why nothing may be recorded any more; empty = enough space."""
        free = self.free_bytes()
        return self._text(free, self._stop) if free < self._stop else ""

    def _text(self, free: int, limit: int) -> str:
        return (
            f"{free / 1e6:.0f} MB are left on the disk of {self._folder}, "
            f"fewer than {limit / 1e6:.0f} MB"
        )


def bag_name(pattern: str, info: EpisodeInfo, now: time.struct_time) -> str:
    """Name of an episode's bag; never leads out of its folder.

    Args:
        pattern: With the fields ``{episode_id}``, ``{task}``, ``{source}``, ``{seed}``, ``{date}``
            and ``{time}``.
        info: The episode.
        now: UTC.

    Raises:
        ValueError: The pattern has another field, or gives no name.
    """
    fields = {
        "episode_id": info.episode_id,
        "task": info.task,
        "source": info.source,
        "seed": "" if info.seed is None else str(info.seed),
        "date": time.strftime("%Y-%m-%d", now),
        "time": time.strftime("%H-%M-%S", now),
    }
    try:
        name = pattern.format_map(fields)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ValueError(
            f"name_pattern {pattern!r} has a field other than {', '.join(fields)}"
        ) from None
    name = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    if not name.strip("."):
        raise ValueError(f"name_pattern {pattern!r} gives the name {name!r}")
    return name


@dataclass(frozen=True)
class RecordingConfig:
    """How episodes are recorded; the parameters of recorder_node of the same names.

    Attributes:
        required: Topics that must be seen before an episode may start, absolute.
        versions: Software name to version.
        calibrations: What is calibrated to its id.
        images: How they are stored, one of `vla_data.image_compression.FORMATS`.
    """

    directory: Path
    required: tuple[str, ...] = ()
    queue_bytes: int = 256 << 20
    source: str = ""
    name_pattern: str = "{episode_id}"
    preroll: float = 0.0
    preroll_bytes: int = 256 << 20
    max_file_bytes: int = 0
    max_file_duration: float = 0.0
    disk_warn_bytes: int = 0
    disk_stop_bytes: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    calibrations: Mapping[str, str] = field(default_factory=dict)
    images: str = FORMATS[0]


class Episodes:
    """The bag that is open, if any."""

    def __init__(self, config: RecordingConfig) -> None:
        """Prepares to record; makes the folder.

        Raises:
            OSError: The directory cannot be made.
            ValueError: The pattern of the names or the limits of the disk cannot be right.
        """
        bag_name(config.name_pattern, EpisodeInfo("x", task="x", source="x"), time.gmtime())
        config.directory.mkdir(parents=True, exist_ok=True)
        self.config = config
        self.disk = DiskWatch(config.directory, config.disk_warn_bytes, config.disk_stop_bytes)
        self.writer: EpisodeWriter | None = None
        self.failure = ""
        self.finished = 0
        self._preroll = PreRoll(config.preroll, config.preroll_bytes)
        self._definitions = Definitions()
        self._topics: dict[str, tuple[str, tuple[QosProfile, ...]]] = {}
        self._latched: dict[str, list[Latched]] = {}
        self._seen: set[str] = set()
        self._announced = False
        self._closers: list[threading.Thread] = []

    @property
    def episode_id(self) -> str:
        """Episode that is being recorded; empty = none."""
        return self.writer.info.episode_id if self.writer else ""

    def missing(self) -> list[str]:
        """Required topics not seen since the bag was opened."""
        return [topic for topic in self.config.required if topic not in self._seen]

    def ready_now(self) -> bool:
        """True once per bag: when every required topic has been seen."""
        if self.writer is None or self._announced or self.missing():
            return False
        self._announced = True
        return True

    def announce_again(self) -> None:
        """Makes :meth:`ready_now` true once more."""
        self._announced = False

    @property
    def waiting(self) -> bool:
        """Whether a bag is open and still lacks a required topic."""
        return self.writer is not None and not self._announced

    def add_topic(self, topic: str, type_name: str, qos: Sequence[QosProfile]) -> None:
        """Makes a topic known: it appears in every bag.

        Raises:
            ValueError: Its definition is not found.
        """
        self._definitions.full_text(type_name)
        self._topics[topic] = (type_name, tuple(qos))
        if self.writer is not None:
            self.writer.add_topic(topic, type_name, qos)

    def open(self, info: EpisodeInfo, now_ns: int) -> None:
        """Opens a bag; one that is open is closed as unknown.

        Raises:
            OSError: The bag cannot be written.
        """
        self.close(EpisodeOutcome(), now_ns)
        config = self.config
        problem = self.disk.problem()
        if problem:
            raise OSError(problem)
        info = replace(
            info,
            source=config.source,
            versions=config.versions,
            calibrations=config.calibrations,
        )
        self.writer = EpisodeWriter(
            config.directory / bag_name(config.name_pattern, info, time.gmtime()),
            info,
            definitions=self._definitions,
            queue_bytes=config.queue_bytes + self._preroll.size,
            max_file_bytes=config.max_file_bytes,
            max_file_s=config.max_file_duration,
            images=config.images,
        )
        self._seen.clear()
        self._announced = False
        self.failure = ""
        for topic, (type_name, qos) in self._topics.items():
            self.writer.add_topic(topic, type_name, qos)
        before = self._preroll.take(now_ns)
        began_ns = before[0].log_ns if before else now_ns
        # Whoever plays the bag back has not been there when these were sent.
        for topic, kept in self._latched.items():
            for latched in kept:
                if self._write(topic, latched.type_name, latched.data, began_ns):
                    self._seen.add(topic)
        for topic, type_name, data, log_ns in before:
            self._write(topic, type_name, data, log_ns)

    def take(
        self,
        topic: str,
        type_name: str,
        data: bytes,
        now_ns: int,
        *,
        latched: frozenset[str] | None = None,
        lost: int = 0,
    ) -> None:
        """Records one message.

        Args:
            topic: Absolute name.
            type_name: ``<package>/msg/<Name>``.
            data: The message as it came over the wire.
            now_ns: ROS time of reception, ns.
            latched: If its publisher keeps it for those who come late: what it speaks of, such as
                frames. Earlier ones of the topic that speak of nothing else are out of date.
            lost: Messages of the topic lost just before.
        """
        if latched is not None:
            kept = [one for one in self._latched.get(topic, ()) if not one.subjects <= latched]
            self._latched[topic] = [*kept, Latched(type_name, data, latched)]
        if self.writer is None:
            self._preroll.add(Kept(topic, type_name, data, now_ns))
            return
        if lost:
            self.writer.count_drops(topic, lost)
        if self._write(topic, type_name, data, now_ns):
            self._seen.add(topic)

    def _write(self, topic: str, type_name: str, data: bytes, log_ns: int) -> bool:
        """Hands a message to the bag that is open. Returns whether it was taken."""
        if self.writer is None:
            return False
        try:
            return self.writer.write(topic, type_name, data, log_ns)
        except EpisodeWriteError as error:
            self.failure = str(error)
            return False

    def note(self, text: str) -> None:
        """Adds a note to what is known about the episode that is being recorded."""
        if self.writer is not None and text:
            notes = self.writer.info.notes
            self._inform(notes={**notes, f"note_{len(notes) + 1}": text})

    def identify(self, policy_id: str = "", **calibrations: str) -> None:
        """Stores which policy and which calibrations are in use; empty = nothing is known."""
        if self.writer is None:
            return
        info = self.writer.info
        found = {name: value for name, value in calibrations.items() if value}
        self._inform(
            policy_id=policy_id or info.policy_id, calibrations={**info.calibrations, **found}
        )

    def _inform(self, **changes: object) -> None:
        if self.writer is not None:
            self.writer.info = replace(self.writer.info, **changes)  # type: ignore[arg-type]

    def close(
        self,
        outcome: EpisodeOutcome,
        now_ns: int,
        done: Callable[[Path, Mapping[str, int], str], None] | None = None,
    ) -> None:
        """Finishes the bag in a thread of its own.

        Args:
            outcome: How the episode ended.
            now_ns: ROS time, ns.
            done: Called in that thread with the bag, its drops by topic, and what went wrong.
        """
        writer, self.writer = self.writer, None
        if writer is None:
            return

        def finish() -> None:
            problem = ""
            try:
                writer.close(outcome)
            except OSError as error:
                problem = str(error)
            self.finished += 1
            if done is not None:
                done(writer.path, writer.drops, problem)

        self._closers = [one for one in self._closers if one.is_alive()]
        self._closers.append(threading.Thread(target=finish, name="close bag"))
        self._closers[-1].start()

    def join(self, timeout: float) -> None:
        """Waits until all bags are finished, at most ``timeout`` s."""
        for one in self._closers:
            one.join(timeout)
