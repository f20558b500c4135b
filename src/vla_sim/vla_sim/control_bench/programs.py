# SPDX-License-Identifier: Apache-2.0
"""What one update costs: the C++ programs that come with ``vla_control``."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import vla_control

_LIMIT = 120.0  # s


def folder() -> Path | None:
    """Return where the programs are, None if they were not built.

    They are installed beside the package; ``VLA_CONTROL_PROGRAMS`` names another folder.
    """
    named = os.environ.get("VLA_CONTROL_PROGRAMS")
    # <prefix>/lib/python3.x/site-packages/vla_control/__init__.py
    found = Path(named) if named else Path(vla_control.__file__).parents[3] / "vla_control"
    return found if (found / "bench_update").is_file() else None


def update_cost(joints: int, cycles: int = 200_000) -> dict[str, float]:
    """Return what an update costs in us, and how much more than the rigid-body part alone.

    Args:
        joints: Of the chain that is timed.
        cycles: How many are timed.
    """
    programs = folder()
    if programs is None:
        return {}
    timed = json.loads(_output(programs / "bench_update", str(cycles), str(joints)))["figures"]
    return {
        "update_p50_us": timed["update_p50_us"],
        "update_p99_us": timed["update_p99_us"],
        "update_p50_over_floor_ratio": timed["update_over_model"],
    }


def allocations() -> dict[str, float]:
    """Return how often the real-time interface called the allocator on a tour through all of it."""
    programs = folder()
    if programs is None:
        return {}
    text = _output(programs / "check_allocation")
    counts = re.findall(r"the whole tour allocates nothing \((\d+)\)", text)
    if not counts:
        raise RuntimeError("check_allocation did not say what it has counted")
    return {"allocations_per_update": float(sum(map(int, counts)))}


def _output(program: Path, *arguments: str) -> str:
    # It exits with 1 when a count is not what it must be; the count itself is the figure.
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=_LIMIT, check=False
    )
    return done.stdout
