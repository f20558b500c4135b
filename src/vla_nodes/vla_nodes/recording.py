# SPDX-License-Identifier: Apache-2.0
"""What the recorder decides: which bag is open, when the episode may start, what was lost.

No rclpy. One thread (the executor's) calls everything; bags are finished in threads of their own,
so that a slow disk never holds up a subscription.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vla_data.definitions import Definitions
from vla_data.episode import EpisodeInfo, EpisodeOutcome
from vla_data.episode_writer import EpisodeWriteError, EpisodeWriter
from vla_data.qos import QosProfile


class SequenceWatch:
    """Counts messages lost between one publisher and this process.

    The middleware numbers a publisher's messages without gaps, so a gap is a loss. A number that
    does not grow belongs to a new publisher.
    """

    def __init__(self) -> None:
        """Nothing has been seen."""
        self._last: dict[str, int] = {}

    def lost(self, topic: str, number: int | None) -> int:
        """Messages lost just before this one.

        Args:
            topic: Absolute name.
            number: The publication's number; None when the middleware gives none.
        """
        if number is None:
            return 0
        last = self._last.get(topic)
        self._last[topic] = number
        return number - last - 1 if last is not None and number > last else 0

    def forget(self, topic: str) -> None:
        """Starts anew, as when a topic has more than one publisher."""
        self._last.pop(topic, None)


@dataclass
class Latched:
    """Last message of a topic whose publishers keep it for those who come late."""

    type_name: str
    data: bytes


class Episodes:
    """The bag that is open, if any."""

    def __init__(
        self, directory: Path, required: Sequence[str], queue_bytes: int, source: str = ""
    ) -> None:
        """Prepares to record.

        Args:
            directory: Folder that receives one bag per episode.
            required: Topics that must be seen before the episode may start.
            queue_bytes: Bound of what may wait for the disk, per bag.
            source: Name of the system.

        Raises:
            OSError: The directory cannot be made.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.writer: EpisodeWriter | None = None
        self.failure = ""
        self.finished = 0
        self._required = tuple(required)
        self._queue_bytes = queue_bytes
        self._source = source
        self._definitions = Definitions()
        self._topics: dict[str, tuple[str, tuple[QosProfile, ...]]] = {}
        self._latched: dict[str, Latched] = {}
        self._seen: set[str] = set()
        self._announced = False
        self._closers: list[threading.Thread] = []

    @property
    def episode_id(self) -> str:
        """Episode that is being recorded; empty = none."""
        return self.writer.info.episode_id if self.writer else ""

    def missing(self) -> list[str]:
        """Required topics not seen since the bag was opened."""
        return [topic for topic in self._required if topic not in self._seen]

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
        name = re.sub(r"[^A-Za-z0-9._-]", "_", info.episode_id)
        self.writer = EpisodeWriter(
            self.directory / name,
            EpisodeInfo(**{**vars(info), "source": self._source}),
            definitions=self._definitions,
            queue_bytes=self._queue_bytes,
        )
        self._seen.clear()
        self._announced = False
        self.failure = ""
        for topic, (type_name, qos) in self._topics.items():
            self.writer.add_topic(topic, type_name, qos)
        # Whoever plays the bag back has not been there when these were sent.
        for topic, latched in self._latched.items():
            self.take(topic, latched.type_name, latched.data, now_ns)

    def take(
        self,
        topic: str,
        type_name: str,
        data: bytes,
        now_ns: int,
        *,
        latched: bool = False,
        lost: int = 0,
    ) -> None:
        """Records one message.

        Args:
            topic: Absolute name.
            type_name: ``<package>/msg/<Name>``.
            data: The message as it came over the wire.
            now_ns: ROS time of reception, ns.
            latched: Its publisher keeps it for those who come late.
            lost: Messages of the topic lost just before.
        """
        if latched:
            self._latched[topic] = Latched(type_name, data)
        if self.writer is None:
            return
        try:
            self.writer.write(topic, type_name, data, now_ns)
            if lost:
                self.writer.count_drops(topic, lost)
            self._seen.add(topic)
        except EpisodeWriteError as error:
            self.failure = str(error)

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
