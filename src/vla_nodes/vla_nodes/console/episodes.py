# SPDX-License-Identifier: Apache-2.0
"""Recorded episodes for the console: a list of them, and the pictures of one, read as asked for.

Bags are read by a process of its own, ``python -m vla_nodes.console.episodes FOLDER``: however long
a bag takes or whatever is wrong with it, what moves the arm does not wait. A request is a line of
JSON: ``{}`` for the list, ``{"episode": 3}`` for the times of its pictures, and with ``camera`` and
``frame``, both counted from 0, for one of them. Episodes have numbers here; no text of a browser
becomes a path. An answer is a byte that says whether it went well, four with its length, and JSON
or JPEG.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from vla_data import EpisodeReader, EpisodeReadError, images
from vla_data.bag_metadata import METADATA_FILE
from vla_data.cameras import camera_topics
from vla_data.observation import ObservationError
from vla_data.synchronisation import NS_PER_S

LISTED = 50  # episodes, the newest
QUALITY = 80  # of JPEG
NICENESS = 10
PATIENCE = 30.0  # s for an answer; one bag is damaged in more ways than can be foreseen
WAITING = 16  # requests at the same time
HEAD = struct.Struct(">?I")


class EpisodeError(LookupError):
    """What was asked for is not there; the text says what."""


class Shelf:
    """The bags in a folder. One of them is open at a time.

    Args:
        folder: Where the recorder puts them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers: dict[str, int] = {}  # of the folders seen, by name
        self._count = itertools.count(1)
        self._read: dict[str, tuple[int, dict[str, Any]]] = {}  # time of a bag's end, what it says
        self._open: tuple[int, EpisodeReader] | None = None
        self._frames: list[tuple[str, list[tuple[int, int]]]] = []  # topic; log time, stamp, ns

    def list(self) -> list[dict[str, Any]]:
        """The episodes, the newest first, as JSON has them."""
        ended: list[tuple[int, Path]] = []
        with contextlib.suppress(OSError):
            for bag in self._folder.iterdir():
                with contextlib.suppress(OSError):  # not an episode, or not one that has ended
                    ended.append(((bag / METADATA_FILE).stat().st_mtime_ns, bag))
        newest = sorted(ended, reverse=True)[:LISTED]
        self._read = {bag.name: self._told(bag, time) for time, bag in newest}
        return [told for _, told in self._read.values()]

    def open(self, number: int) -> dict[str, Any]:
        """The cameras of an episode with the times of their pictures, s since the first.

        Raises:
            EpisodeError: There is no such episode, or it cannot be read.
        """
        reader = self._reader(number)
        names = camera_topics(reader)
        first = min((stamps[0][1] for _, stamps in self._frames), default=0)
        return {
            "cameras": [
                {
                    "name": name,
                    "times": [round((stamp - first) / NS_PER_S, 3) for _, stamp in stamps],
                }
                for name, (_, stamps) in zip(names, self._frames, strict=True)
            ]
        }

    def picture(self, number: int, camera: int, frame: int) -> bytes:
        """One picture, JPEG.

        Raises:
            EpisodeError: There is none, or it cannot be read.
        """
        reader = self._reader(number)
        if not 0 <= camera < len(self._frames):
            raise EpisodeError(f"episode {number} has no camera {camera}")
        topic, stamps = self._frames[camera]
        if not 0 <= frame < len(stamps):
            raise EpisodeError(f"camera {camera} of episode {number} has no picture {frame}")
        log_ns = stamps[frame][0]
        try:
            message = next(reader.messages([topic], log_ns, log_ns + 1)).message
            if "jpeg" in getattr(message, "format", ""):
                return bytes(message.data)
            return images.encode_jpeg(images.to_rgb(images.decode_message(message)), QUALITY)
        except (EpisodeReadError, ObservationError, StopIteration, cv2.error) as error:
            raise EpisodeError(f"picture {frame} of {topic} cannot be read: {error}") from None

    def _told(self, bag: Path, time_ns: int) -> tuple[int, dict[str, Any]]:
        before = self._read.get(bag.name)
        if before is not None and before[0] == time_ns:
            return before
        if bag.name not in self._numbers:
            self._numbers[bag.name] = next(self._count)
        told: dict[str, Any] = {"number": self._numbers[bag.name], "name": bag.name}
        told["ended"] = time_ns / NS_PER_S  # s since the epoch
        try:
            with EpisodeReader(bag) as reader:
                span = (reader.end_ns or 0) - (reader.start_ns or 0)
                told |= {
                    "instruction": reader.info.instruction,
                    "outcome": "damaged" if reader.problems else reader.outcome.outcome,
                    "seconds": round(span / NS_PER_S, 1),
                }
        except (EpisodeReadError, OSError, ValueError) as error:
            told |= {"instruction": str(error), "outcome": "unreadable", "seconds": 0.0}
        return time_ns, told

    def _reader(self, number: int) -> EpisodeReader:
        if self._open is not None and self._open[0] == number:
            return self._open[1]
        name = next((name for name, known in self._numbers.items() if known == number), None)
        if name is None:
            raise EpisodeError(f"there is no episode {number}")
        if self._open is not None:
            self._open[1].close()
            self._open = None
        try:
            reader = EpisodeReader(self._folder / name)
            topics = camera_topics(reader).values()
            self._frames = [(topic, reader.times_and_stamps(topic)) for topic in topics]
        except (EpisodeReadError, OSError, ValueError) as error:
            raise EpisodeError(f"episode {number} cannot be read: {error}") from None
        self._open = number, reader
        return reader

    def answer(self, asked: Mapping[str, int]) -> bytes:
        """What a request is answered with.

        Raises:
            EpisodeError: It cannot be had.
        """
        if "frame" in asked:
            return self.picture(asked["episode"], asked["camera"], asked["frame"])
        told = self.open(asked["episode"]) if "episode" in asked else self.list()
        return json.dumps(told).encode()


class Library:
    """Asks the process, in whose turn the requests are. Used in one event loop.

    Args:
        folder: Where the recorder puts its bags; None = there is none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def ask(self, **asked: int) -> bytes:
        """The answer to a request, JSON or JPEG.

        Raises:
            EpisodeError: It cannot be had.
        """
        if self._folder is None:
            raise EpisodeError("no folder of recordings is known")
        if self._waiting >= WAITING:
            raise EpisodeError("too much is asked for at once")
        self._waiting += 1
        try:
            async with self._turn, asyncio.timeout(PATIENCE):
                return await self._exchange(asked)
        except (OSError, EOFError, TimeoutError) as error:
            raise EpisodeError("the recordings could not be read") from error
        finally:
            self._waiting -= 1

    async def _exchange(self, asked: Mapping[str, int]) -> bytes:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                __name__,
                str(self._folder),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        to_it, from_it = self._process.stdin, self._process.stdout
        assert to_it is not None
        assert from_it is not None
        try:
            to_it.write(json.dumps(asked).encode() + b"\n")
            await to_it.drain()
            good, length = HEAD.unpack(await from_it.readexactly(HEAD.size))
            answer = await from_it.readexactly(length)
        except BaseException:
            await self.close()  # what it still says would be taken for the next answer
            raise
        if not good:
            raise EpisodeError(answer.decode())
        return answer

    async def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


def main() -> None:
    """Answers until nobody asks any more."""
    os.nice(NICENESS)
    shelf = Shelf(Path(sys.argv[1]))
    for line in sys.stdin:
        try:
            good, answer = True, shelf.answer(json.loads(line))
        except EpisodeError as error:
            good, answer = False, str(error).encode()
        sys.stdout.buffer.write(HEAD.pack(good, len(answer)) + answer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
