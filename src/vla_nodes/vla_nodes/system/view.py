# SPDX-License-Identifier: Apache-2.0
"""The live terminal view of `vla up`, and plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from vla_msgs.msg import ControllerState, ControlOwner
from vla_nodes.supervision.types import Owner, State, Verdict
from vla_nodes.system.demo import Demo, Episode
from vla_nodes.system.monitor import STALE, Monitor

PLAIN_PERIOD = 5.0  # s between plain lines
LEVELS = {0: ("ok", "green"), 1: ("warn", "yellow"), 2: ("error", "red"), 3: ("stale", "red")}
PHASES = {
    ControllerState.PHASE_INACTIVE: "inactive",
    ControllerState.PHASE_HOLDING: "holding",
    ControllerState.PHASE_TRACKING: "tracking",
    ControllerState.PHASE_BRAKING: "braking",
    ControllerState.PHASE_FAULT: "FAULT",
}


class View:
    """Shows how the system stands. All methods from one thread."""

    def __init__(
        self, monitor: Monitor, demo: Demo, total: int, nodes: Sequence[str], console: Console
    ) -> None:
        """Prepares the view.

        Args:
            monitor: Where the values come from.
            demo: Where the episodes come from.
            total: Episodes to run.
            nodes: Full names of the system's nodes.
            console: Where it is drawn.
        """
        self._monitor = monitor
        self._demo = demo
        self._total = total
        self._nodes = nodes
        self._console = console
        self._live = console.is_terminal
        self._next_line = 0.0
        self._display: Live | None = None

    def start(self) -> None:
        """Begins to draw, where there is a terminal."""
        if self._live:
            self._display = Live(
                self._panel(), console=self._console, refresh_per_second=4, transient=True
            )
            self._display.start()

    def update(self) -> None:
        """Draws the present state, or a line every few seconds."""
        if self._display is not None:
            self._display.update(self._panel())
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + PLAIN_PERIOD
            self._console.print(self.line())

    def stop(self) -> None:
        """Stops drawing."""
        if self._display is not None:
            self._display.stop()
            self._display = None

    def line(self) -> str:
        """The state in one line."""
        values = " · ".join(f"{name} {value}" for name, value in self._values())
        return f"[{len(self._demo.episodes)}/{self._total}] {self._demo.activity} · {values}"

    def _values(self) -> list[tuple[str, str]]:
        monitor = self._monitor
        owner, controller = monitor.owner, monitor.controller
        rows = [("owner", describe_owner(owner))]
        if owner is not None and owner.state == ControlOwner.STATE_ASKING:
            rows.append(("asks for help", f"{owner.reason} (vla failure answer)"))
        if controller is not None:
            rows.append(("controller", PHASES.get(controller.phase, "?")))
            if controller.chunk_age >= 0.0:
                rows.append(("chunk age", f"{1e3 * controller.chunk_age:.0f} ms"))
        rows.append(("chunks", f"{monitor.chunk_rate.rate():.1f} Hz"))
        for name, node, key, form in (
            ("inference", "policy", "latency median (ms)", "{:.0f} ms"),
            ("images", "sim", "image rate (Hz)", "{:.0f} Hz"),
            ("recorded", "recorder", "message rate (Hz)", "{:.0f} Hz"),
            ("drops", "recorder", "drops", "{:.0f}"),
            ("real time", "sim", "real-time factor", "{:.2f}"),
            ("overruns", "sim", "overruns", "{:.0f}"),
        ):
            full = next((one for one in self._nodes if one.endswith(f"/{node}")), "")
            value = monitor.value(full, key)
            if value is not None:
                rows.append((name, form.format(value)))
        return rows

    def _panel(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        for name, value in self._values():
            grid.add_row(Text(name, style="dim"), value)
        health = Table.grid(padding=(0, 2))
        for node in self._nodes:
            told = self._monitor.health.get(node)
            if told is None:
                health.add_row(node, Text("silent", style="yellow"), "")
                continue
            stale = time.monotonic() - told.seen_at > STALE
            word, style = ("stale", "red") if stale else LEVELS.get(told.level, ("?", "red"))
            health.add_row(node, Text(word, style=style), Text(told.message, overflow="ellipsis"))
        done = sum(episode.success for episode in self._demo.episodes)
        title = f"{self._demo.activity}  ({done} of {len(self._demo.episodes)} succeeded)"
        return Panel(Group(grid, Text(), health), title=title, subtitle="Ctrl-C stops")


def describe_owner(owner: ControlOwner | None) -> str:
    """Owner and state in words."""
    if owner is None:
        return "unknown"
    try:
        return f"{Owner(owner.owner).name.lower()}, {State(owner.state).name}"
    except ValueError:
        return f"{owner.owner}, {owner.state}"


def episode_table(episodes: Sequence[Episode]) -> Table:
    """The summary of a run."""
    table = Table(title="Episodes")
    for name in ("task", "seed", "instruction", "outcome", "says", "time", "chunks", "latency"):
        table.add_column(name, justify="right" if name in ("seed", "time", "chunks") else "left")
    for episode in episodes:
        style = "green" if episode.success else "red"
        verdict = episode.verdict.name.lower()
        detail = "" if episode.verdict is Verdict.SUCCESS else f" ({episode.message})"
        table.add_row(
            episode.request.task or "-",
            str(episode.request.seed),
            episode.instruction,
            Text(verdict + detail, style=style),
            episode.source.name.lower(),
            f"{episode.duration:.1f} s",
            str(episode.chunks),
            f"{1e3 * episode.chunk_latency:.0f} ms",
        )
    return table
