# SPDX-License-Identifier: Apache-2.0
"""Records numbered messages until it is killed; run by test_crash.py in a process of its own.

Prints the number and the monotonic time of a message each time it has taken one. Arguments: the
bag, the size in bytes at which writing fails (0: never), the chunk size in bytes, and whether the
writer flushes.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import numpy as np
from made_episode import Messages

from vla_data import Definitions, EpisodeInfo, EpisodeWriteError, EpisodeWriter


def main(path: str, size_limit: int, chunk_bytes: int, flushes: bool) -> int:
    if size_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_limit, size_limit))
    messages = Messages(Definitions())
    writer = EpisodeWriter(Path(path), EpisodeInfo("killed", task="pick"), chunk_bytes=chunk_bytes)
    if not flushes:
        writer._mcap.flush = lambda: None
    random = np.random.default_rng(0)
    number = 0
    try:
        while True:
            pixels = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            pixels[0, 0] = (number >> 16, number >> 8 & 255, number & 255)
            message = messages.image(number, pixels)
            writer.write("/camera", message.__msgtype__, messages.cdr(message), number)
            print(number, time.monotonic(), flush=True)
            number += 1
            time.sleep(0.002)
    except EpisodeWriteError as error:
        print(error, file=sys.stderr)
    try:
        writer.close()
    except EpisodeWriteError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True"))
