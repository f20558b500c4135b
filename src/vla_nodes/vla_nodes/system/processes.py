# SPDX-License-Identifier: Apache-2.0
"""Starts, watches and ends the processes of a system. No rclpy."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from vla_nodes.system.description import NodeEntry

TAIL_LINES = 15
RESPAWN_DELAY = 1.0  # s, so that a process that fails at once does not keep the machine busy
SIGINT_GRACE = 8.0  # s to finish bags and release devices
SIGTERM_GRACE = 3.0  # s
PR_SET_PDEATHSIG = 1

_LIBC = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """In the child: ends it when the parent dies, however the parent dies (Linux)."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class LogFile:
    """One file for the output of all processes, each line with time and name."""

    def __init__(self, path: Path) -> None:
        """Creates the file at ``path``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file: IO[str] = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def write(self, name: str, line: str) -> None:
        """Adds one line. Any thread."""
        with self._lock:
            if not self._file.closed:
                self._file.write(f"{time.monotonic() - self._began:9.3f} [{name}] {line}\n")
                self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()


class Process:
    """One process of a system. Call it from one thread: children die with the thread's process."""

    def __init__(self, entry: NodeEntry, log: LogFile, environment: Mapping[str, str]) -> None:
        """Starts the process.

        Args:
            entry: What to start.
            log: Where its output goes.
            environment: Its environment.

        Raises:
            OSError: It cannot be started.
        """
        self.entry = entry
        self.starts = 0
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._log = log
        self._environment = dict(environment)
        self._ended_at: float | None = None
        self._reader: threading.Thread | None = None
        self._popen: subprocess.Popen[str]
        self.start()

    def start(self) -> None:
        """Starts the process (again)."""
        # A session of its own: Ctrl-C in the terminal reaches the parent only, which ends the
        # processes in order.
        self._popen = subprocess.Popen(
            self.entry.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self._environment,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        self.starts += 1
        self._ended_at = None
        self._reader = threading.Thread(target=self._read, args=(self._popen,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    def poll(self) -> int | None:
        """Exit status; None while it runs. Negative = the signal that ended it."""
        return self._popen.poll()

    def respawn_if_due(self) -> bool:
        """Starts an ended process again after a delay. Returns whether it did."""
        if self.poll() is None:
            return False
        if self._ended_at is None:
            self._ended_at = time.monotonic()
            self._log.write(self.entry.name, describe_exit(self.poll()))
        if time.monotonic() - self._ended_at < RESPAWN_DELAY:
            return False
        self.start()
        return True

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process and to whatever it has started."""
        if self.poll() is None:
            try:
                os.killpg(self._popen.pid, number)
            except ProcessLookupError:
                return

    def wait(self, timeout: float) -> bool:
        """Waits at most ``timeout`` s for its end. Returns whether it has ended."""
        try:
            self._popen.wait(max(0.0, timeout))
        except subprocess.TimeoutExpired:
            return False
        if self._reader is not None:
            self._reader.join(timeout=1.0)
        return True

    def _read(self, popen: subprocess.Popen[str]) -> None:
        if popen.stdout is None:
            return
        for line in popen.stdout:
            self.tail.append(line.rstrip())
            self._log.write(self.entry.name, line.rstrip())


def describe_exit(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "runs"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


class ProcessGroup:
    """All processes of a system."""

    def __init__(
        self, entries: Sequence[NodeEntry], log: LogFile, environment: Mapping[str, str]
    ) -> None:
        """Starts them in order."""
        self.processes: list[Process] = []
        self.respawns = 0
        try:
            for entry in entries:
                self.processes.append(Process(entry, log, environment))
        except OSError:
            self.stop()
            raise

    def check(self) -> Process | None:
        """Restarts what may be restarted.

        Returns:
            A process that has ended and may not be, or None.
        """
        for process in self.processes:
            if process.poll() is None:
                continue
            if process.entry.required or not process.entry.respawn:
                return process
            self.respawns += process.respawn_if_due()
        return None

    def stop(self) -> list[str]:
        """Ends all processes: asks, insists, kills.

        Returns:
            Names of those that had to be killed.
        """
        for number, grace in ((signal.SIGINT, SIGINT_GRACE), (signal.SIGTERM, SIGTERM_GRACE)):
            for process in reversed(self.processes):
                process.signal(number)
            deadline = time.monotonic() + grace
            for process in self.processes:
                process.wait(deadline - time.monotonic())
        killed = [process.entry.name for process in self.processes if process.poll() is None]
        for process in self.processes:
            process.signal(signal.SIGKILL)
            process.wait(5.0)
        return killed
