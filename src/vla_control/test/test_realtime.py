# SPDX-License-Identifier: Apache-2.0
"""Runs the C++ checks: no allocation, race-free hand-overs; and the benchmark's output."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import vla_control


def program(name: str) -> Path:
    """The program in the build folder, or beside the installed package."""
    folder = os.environ.get("VLA_CONTROL_PROGRAMS")
    if folder is None:
        # <prefix>/lib/python3.x/site-packages/vla_control/__init__.py
        folder = Path(vla_control.__file__).parents[3] / "vla_control"
    path = Path(folder) / name
    assert path.is_file(), f"{path} is missing: build vla_control with BUILD_TESTING=ON"
    return path


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program(name), *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_real_time_interface_allocates_nothing() -> None:
    result = run("check_allocation")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("the whole tour allocates nothing (0)") == 11
    assert result.stdout.count("is counted") == 3  # the positive controls have run


def test_the_real_time_interface_makes_no_system_call_and_takes_no_lock() -> None:
    result = run("check_system_calls")
    if result.returncode == 77:
        pytest.skip(result.stdout.strip())
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("ok   the whole tour makes no system call") == 6
    assert result.stdout.count("ok   it takes no lock") == 6
    assert result.stdout.count("fatal") == 2  # the positive controls have run
    assert "a free lock is counted" in result.stdout


def test_hand_overs_between_threads_are_whole() -> None:
    result = run("check_handover")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_benchmark_prints_json() -> None:
    result = run("bench_update", "2000")
    figures = json.loads(result.stdout)["figures"]
    assert figures["update_p50_us"] > 0.0
    assert figures["model_p50_us"] > 0.0
