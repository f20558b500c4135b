# SPDX-License-Identifier: Apache-2.0
"""A policy by its name: a checkpoint in this process, or a server."""

from __future__ import annotations

from pathlib import Path

from .checkpoint import load_policy
from .interface import Policy
from .serving.connect import connect, is_remote

# In lockstep an answer may take its time.
_PATIENCE = 60.0  # s


def open_policy(name: str | Path, threads: int | None = 1) -> Policy:
    """Loads a checkpoint or connects to a server.

    Args:
        name: Folder of a checkpoint, or see ``serving.connect``.
        threads: CPU threads per inference, in this process.

    Raises:
        PolicyError: If there is none.
    """
    if is_remote(name):
        return connect(name, call_timeout=_PATIENCE)
    return load_policy(Path(name), threads=threads)
