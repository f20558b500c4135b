# SPDX-License-Identifier: Apache-2.0
"""Processes are watched, restarted and ended; nothing is left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vla_nodes.system import processes, shared_memory
from vla_nodes.system.description import NodeEntry
from vla_nodes.system.processes import LogFile, ProcessGroup


class Script(NodeEntry):
    """An entry that runs a line of Python."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.executable]


def script(code: str, **options: bool) -> Script:
    return Script(name="script", executable=code, **options)  # type: ignore[arg-type]


def wait_for(predicate: Callable[[], bool], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


@pytest.fixture
def log(tmp_path: Path) -> LogFile:
    return LogFile(tmp_path / "log" / "processes.log")


SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time\n"
    "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('up', flush=True)\n"
    "time.sleep(600)"
)


def test_output_is_logged_with_the_name(log: LogFile) -> None:
    group = ProcessGroup([script("print('hello')")], log, os.environ)
    assert group.processes[0].wait(20.0)
    group.stop()
    assert "[script] hello" in log.path.read_text()
    assert list(group.processes[0].tail) == ["hello"]


def test_a_killed_process_is_restarted_where_the_system_says_so(
    log: LogFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "RESPAWN_DELAY", 0.05)
    group = ProcessGroup([script(SLEEP, respawn=True)], log, os.environ)
    process = group.processes[0]
    first = process.pid
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: group.check() is None and process.poll() is None and process.pid != first)
    assert group.respawns == 1
    group.stop()


@pytest.mark.parametrize("options", [{"required": True, "respawn": True}, {"respawn": False}])
def test_the_end_of_any_other_process_is_reported(log: LogFile, options: dict[str, bool]) -> None:
    group = ProcessGroup([script("raise SystemExit(3)", **options)], log, os.environ)
    wait_for(lambda: group.check() is not None)
    ended = group.check()
    assert ended is not None
    assert processes.describe_exit(ended.poll()) == "ended with status 3"
    group.stop()


def test_stop_asks_first_and_kills_last(log: LogFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SIGINT_GRACE", 0.3)
    monkeypatch.setattr(processes, "SIGTERM_GRACE", 0.2)
    group = ProcessGroup([script(SLEEP), script(STUBBORN)], log, os.environ)
    wait_for(lambda: all(process.tail for process in group.processes))
    assert group.stop() == ["script"]
    assert all(process.poll() is not None for process in group.processes)


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_processes import script, SLEEP\n"
        "from vla_nodes.system.processes import LogFile, ProcessGroup\n"
        f"log = LogFile(Path({str(tmp_path / 'log')!r}))\n"
        "group = ProcessGroup([script(SLEEP)], log, os.environ)\n"
        "print(group.processes[0].pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.kill()
    wait_for(lambda: _gone(child))


def _gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_only_shared_memory_of_the_dead_is_removed(tmp_path: Path) -> None:
    alive = ["fastrtps_alive", "fastrtps_alive_el"]
    dead = ["fastdds_dead", "fastdds_dead_el", "fastrtps_port7_el", "sem.fastrtps_port7_mutex"]
    for name in (*alive, *dead, "other"):
        (tmp_path / name).touch()
    with (tmp_path / "fastrtps_alive_el").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert shared_memory.remove_stale(tmp_path) == len(dead)
        left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [*alive, "other"]
