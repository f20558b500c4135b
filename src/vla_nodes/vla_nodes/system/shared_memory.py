# SPDX-License-Identifier: Apache-2.0
"""Removes the shared memory that killed Fast DDS processes leave in /dev/shm."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

FOLDER = Path("/dev/shm")
PREFIXES = ("fastrtps", "fastdds")  # of Fast DDS 2 (Jazzy) and 3


def _is_free(lock: Path) -> bool:
    """Whether nobody holds the lock file. Fast DDS locks it as long as its owner lives."""
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def remove_stale(folder: Path = FOLDER) -> int:
    """Removes segments and ports whose owners are dead.

    Args:
        folder: Where shared memory is mounted.

    Returns:
        Number of files removed.
    """
    removed = 0
    locks = [lock for prefix in PREFIXES for lock in folder.glob(f"{prefix}_*_el")]
    for lock in sorted(locks):
        base = lock.name.removesuffix("_el")
        shared = folder / f"{base}_sl"
        if not _is_free(lock) or (shared.exists() and not _is_free(shared)):
            continue
        for name in (base, f"{base}_el", f"{base}_sl", f"sem.{base}_mutex"):
            path = folder / name
            if path.exists():
                path.unlink(missing_ok=True)
                removed += 1
    return removed
