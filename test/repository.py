# SPDX-License-Identifier: Apache-2.0
"""What the tests of the repository itself share: its files and the order of its packages."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# A package may import only from packages before it.
LAYERS = (
    "vla_msgs",
    "vla_control",
    "vla_sim",
    "vla_data",
    "vla_policy",
    "vla_failure",
    "vla_nodes",
)


@cache
def files() -> tuple[Path, ...]:
    """Files of the repository: tracked, or new and not ignored; relative to its root."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    names = [Path(name) for name in listing.stdout.split("\0") if name]
    return tuple(name for name in names if (ROOT / name).is_file())


def sources(*suffixes: str) -> list[Path]:
    """Files with one of ``suffixes``, relative to the repository's root."""
    return [path for path in files() if path.suffix in suffixes]
