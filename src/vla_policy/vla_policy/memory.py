# SPDX-License-Identifier: Apache-2.0
"""How a process that handles images and messages keeps memory."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_KEPT_BYTES = 16 * 2**20


def keep_memory() -> None:
    """Lets the C library keep what one message took for the next; where it is not glibc, nothing.

    Else blocks of some hundred KB may be given back to the system and mapped anew each time, which
    depends on what lies on the heap by chance. Seen: 190 page faults a request of a server's client
    with two images of 224 x 224 and 1320 (2 ms of the thread) with 640 x 480, none with this; a
    chunk with its features to the controller 6.3 ms in one run and 1.9 in another, 1.8 with this.

    It holds for the whole process, which then keeps up to 64 MiB that are free: for the start of a
    process whose work this is, never for a library.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, 4 * _KEPT_BYTES)
        library.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)


def spare_full_collections() -> None:
    """Lets the garbage collector leave out what the process has made so far.

    With torch loaded there are 400,000 objects, and a full collection of them keeps every thread
    waiting for 0.2 s. They stay until the process ends; what reference counts free is freed as
    ever. For the end of a start, once all is loaded.
    """
    gc.collect()
    gc.freeze()
