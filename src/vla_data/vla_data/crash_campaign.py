# SPDX-License-Identifier: Apache-2.0
"""What bags hold whose writer was killed at a random moment, or whose disk was full."""

from __future__ import annotations

import mmap
import os
import resource
import shutil
import signal
import statistics
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_data.bag_check import check_bag
from vla_data.bag_repair import repair_bag
from vla_data.definitions import Definitions
from vla_data.episode import EpisodeInfo
from vla_data.episode_reader import EpisodeReader
from vla_data.episode_writer import EpisodeWriteError, EpisodeWriter
from vla_data.noise import IMAGE_TYPE, NoiseImages, stamp_of, stamped

WIDTH, HEIGHT = 160, 120
PERIOD = 0.002  # s between images; 29 MB/s
HEADER_TYPE = "std_msgs/msg/Header"
HEADER = stamped(b"\0\1\0\0" + bytes(8) + b"\1\0\0\0\0", 0)
TOPICS = {"/camera": IMAGE_TYPE, "/state": HEADER_TYPE}
LATEST_KILL = 1.5  # s after the first message
MOST_MESSAGES = 100_000
FULL = 3  # exit status of a writer that has told that the disk is full
PATIENCE = 60.0  # s for anything that a writer does
# Files of one bag: one, of limited size, of 300 messages (log times are numbers).
FILES: tuple[dict[str, float], ...] = ({}, {"max_file_bytes": 2 << 20}, {"max_file_s": 3e-7})


@dataclass
class Campaign:
    """What was seen.

    Attributes:
        lost_s: Time from the last message that is in the bag to the last that the writer took.
        failures: Bags that could not be read as they should, one line each.
        small_disk: How a full disk was made.
    """

    kills: int = 0
    full_disks: int = 0
    lost_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    small_disk: str = ""

    def figures(self) -> dict[str, float]:
        """Names as in ``docs/benchmarks.md``."""
        return {
            "crash_kills_count": self.kills,
            "crash_full_disks_count": self.full_disks,
            "crash_unreadable_count": len(self.failures),
            "crash_lost_max_s": max(self.lost_s, default=0.0),
            "crash_lost_p50_s": statistics.median(self.lost_s or [0.0]),
        }


def run(
    folder: Path,
    kills: int = 200,
    full_disks: int = 20,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Campaign:
    """Kills writers and fills disks.

    Call it from a process without other threads: it forks.

    Args:
        folder: For the bags, which are removed again.
        kills: Writers that are killed.
        full_disks: Disks that are filled.
        seed: Of the moments and the sizes.
        advance: Called after each.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen = Campaign()
    definitions = Definitions()
    images = NoiseImages(definitions, WIDTH, HEIGHT, seed)
    means = _Means(definitions, images, np.random.default_rng(seed))
    for number in range(kills + full_disks):
        place = folder / f"crash_{number}"
        place.mkdir()
        try:
            if number < kills:
                seen.kills += 1
                _kill(seen, place, means)
            else:
                seen.full_disks += 1
                _fill(seen, place, means)
        except Exception as error:  # whatever goes wrong with a bag is what is looked for
            seen.failures.append(f"{place.name}: {type(error).__name__}: {error}")
        shutil.rmtree(place, ignore_errors=True)
        advance()
    return seen


class _Taken:
    """When the writer took each message; shared with the process that writes."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 * (MOST_MESSAGES + 1))
        self.times: NDArray[np.float64] = np.frombuffer(self._memory, dtype=np.float64)

    @property
    def count(self) -> int:
        """Number of messages on each topic."""
        return int(np.count_nonzero(self.times))


@dataclass(frozen=True)
class _Means:
    """What every crash is made with."""

    definitions: Definitions
    images: NoiseImages
    random: np.random.Generator

    def files(self) -> dict[str, float]:
        """Which files the next bag has."""
        return FILES[int(self.random.integers(len(FILES)))]


def _kill(seen: Campaign, place: Path, means: _Means) -> None:
    taken, images, random = _Taken(), means.images, means.random
    bag = place / "bag"
    files = means.files()
    # Some are killed while they finish the bag, or after that.
    closes = float(random.uniform(0.0, 2.0 * LATEST_KILL))
    moment = float(random.uniform(0.0, LATEST_KILL))

    def write() -> int:
        writer = _writer(bag, means.definitions, files)
        _write(writer, images, taken, time.monotonic() + closes)
        writer.close()
        signal.pause()
        return 0

    child = _fork(write)
    try:
        deadline = time.monotonic() + PATIENCE
        while not taken.count and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(moment)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    _verify(seen, bag, images, taken)


def _fill(seen: Campaign, place: Path, means: _Means) -> None:
    taken, images = _Taken(), means.images
    size = int(means.random.integers(4 << 20, 24 << 20))
    files = means.files()
    with _small_disk(place / "disk", size) as (disk, limit):
        seen.small_disk = "limit on the size of a file" if limit else "tmpfs"

        def write() -> int:
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            # A bag of several small files would never meet a limit on the size of a file.
            writer = _writer(disk / "bag", means.definitions, {} if limit else files)
            try:
                _write(writer, images, taken, time.monotonic() + PATIENCE)
                writer.close()
            except EpisodeWriteError:
                with suppress(EpisodeWriteError):
                    writer.close()
                return FULL
            return 0

        child = _fork(write)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != FULL:
            raise ValueError(f"the writer ended with {os.waitstatus_to_exitcode(status)}")
        bag = Path(shutil.copytree(disk / "bag", place / "bag"))
    kept = _verify(seen, bag, images, taken)
    with EpisodeReader(bag) as reader:
        stated = sum((reader.drops or {}).values())
        if not reader.finished or stated < len(TOPICS) * taken.count - kept:
            raise ValueError(f"finished {reader.finished}, {kept} kept, {stated} stated as lost")


def _fork(write: Callable[[], int]) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = write()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def _writer(bag: Path, definitions: Definitions, files: dict[str, float]) -> EpisodeWriter:
    return EpisodeWriter(
        bag,
        EpisodeInfo("crash"),
        definitions=definitions,
        max_file_bytes=int(files.get("max_file_bytes", 0)),
        max_file_s=files.get("max_file_s", 0.0),
    )


def _write(writer: EpisodeWriter, images: NoiseImages, taken: _Taken, until: float) -> None:
    for number in range(MOST_MESSAGES):
        writer.write("/camera", IMAGE_TYPE, images.message(number, number), number)
        writer.write("/state", HEADER_TYPE, stamped(HEADER, number), number)
        taken.times[number] = time.monotonic()
        if time.monotonic() > until:
            return
        time.sleep(PERIOD)


def _verify(seen: Campaign, bag: Path, images: NoiseImages, taken: _Taken) -> int:
    """Compares every message of a bag with what was written, repairs it and checks that again.

    Returns:
        Number of messages in the bag.

    Raises:
        ValueError: Something is not as it should be.
    """
    last = taken.count - 1
    kept = _numbers(bag, images)
    for topic, numbers in kept.items():
        if numbers != list(range(len(numbers))):
            raise ValueError(f"{topic} has a gap")
        newest = taken.times[min(numbers[-1], last)] if numbers else taken.times[0]
        if last >= 0:
            seen.lost_s.append(max(0.0, float(taken.times[last] - newest)))
    result = repair_bag(bag)
    repaired = bag if result["repaired"] is None else Path(result["repaired"])
    checked = check_bag(repaired)
    if not checked["sound"]:
        raise ValueError(f"repaired, but not sound: {checked['checks']}")
    if _numbers(repaired, images) != kept:
        raise ValueError("the repaired bag holds other messages")
    return sum(len(numbers) for numbers in kept.values())


def _numbers(bag: Path, images: NoiseImages) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {topic: [] for topic in TOPICS}
    with EpisodeReader(bag) as reader:
        for message in reader.raw_messages():
            number = stamp_of(message.data)
            expected = (
                images.message(number, number)
                if message.topic == "/camera"
                else stamped(HEADER, number)
            )
            if message.data != expected:
                raise ValueError(f"message {number} on {message.topic} is not what was written")
            found[message.topic].append(number)
    return found


@contextmanager
def _small_disk(place: Path, size: int) -> Iterator[tuple[Path, int]]:
    """A disk of some size; where none can be mounted, a folder and a limit on the size of a file.

    Yields:
        The folder, and the limit in bytes (0 = none).
    """
    place.mkdir()
    mounted = shutil.which("mount") is not None and (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )
    try:
        yield place, 0 if mounted else size
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)
