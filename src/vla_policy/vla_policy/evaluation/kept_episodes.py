# SPDX-License-Identifier: Apache-2.0
"""Finished episodes on disk, one JSON line each, so that a long comparison can be stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAME = "episodes.jsonl"


class KeptEpisodes:
    """The file in a folder; its first line says what was run.

    Attributes:
        path: Of the file.
        entries: What it held when it was opened.

    Args:
        folder: Made if it is not there.
        settings: What all episodes have in common; plain values.

    Raises:
        ValueError: If the folder holds episodes of something else, naming what differs.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME
        self.entries: list[dict[str, Any]] = []
        data = self.path.read_bytes() if self.path.exists() else b""
        # What was written when the process was killed may be half a line.
        whole = data[: data.rfind(b"\n") + 1]
        self.path.write_bytes(whole)
        if not whole:
            self._append({"settings": settings})
            return
        first, *self.entries = [json.loads(line) for line in whole.splitlines()]
        found = first["settings"]
        different = [
            f"{name}: there {found.get(name)!r}, now {settings.get(name)!r}"
            for name in sorted({*found, *settings})
            if found.get(name) != settings.get(name)
        ]
        if different:
            raise ValueError(f"{self.path} holds other episodes. {'; '.join(different)}")

    def add(self, entry: dict[str, Any]) -> None:
        """Keeps a finished episode, of plain values and numbers of NumPy."""
        self._append(entry)

    def _append(self, entry: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, default=lambda number: number.item()) + "\n")
