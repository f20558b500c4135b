# SPDX-License-Identifier: Apache-2.0
"""Prints one hash of the sources a build depends on.

Python modules are linked into the installation, so of them only the names count; of every other
file the content does. Tests and caches do not.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

IGNORED_FOLDERS = {"__pycache__", "test", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
LINKED_SUFFIXES = {".py", ".pyi", ".md", ".safetensors", ".yaml"}


def sources(arguments: list[str]) -> list[Path]:
    """Files named by ``arguments``, with folders walked; those that do not exist are left out."""
    found = []
    for argument in map(Path, arguments):
        if argument.is_file():
            found.append(argument)
        for folder, subfolders, files in os.walk(argument):
            subfolders[:] = [
                name
                for name in subfolders
                if name not in IGNORED_FOLDERS and not name.endswith(".egg-info")
            ]
            found.extend(Path(folder) / name for name in files)
    return sorted(found)


def fingerprint(arguments: list[str]) -> str:
    """Hash over names and, where they are not linked, contents of the sources."""
    digest = hashlib.sha256()
    for path in sources(arguments):
        digest.update(f"\0{path}\0".encode())
        if path.suffix not in LINKED_SUFFIXES or path.name == "setup.py":
            digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    print(fingerprint(sys.argv[1:]))
