# SPDX-License-Identifier: Apache-2.0
"""`vla failure watch`: what the failure detector of a running system says."""

from __future__ import annotations

import argparse
import math
import re
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from vla_msgs.msg import ControlOwner, FailureStatus, HelpRequest
from vla_nodes.node_tools import LATCHED, RELIABLE, spin_aside
from vla_nodes.system.view import describe_owner

PERIOD = 0.1  # s
SILENT = 2.0  # s (steady) without a status
STYLES = {
    FailureStatus.OK: ("OK", "green"),
    FailureStatus.WARN: ("WARN", "yellow"),
    FailureStatus.STOP: ("STOP", "bold red"),
    FailureStatus.BACKTRACK: ("BACKTRACK", "bold red"),
    FailureStatus.ASK_HELP: ("ASK_HELP", "bold red"),
    FailureStatus.ABSTAIN: ("ABSTAIN", "bold magenta"),
}
BARS = "▁▂▃▄▅▆▇█"
HISTORY = 60  # inferences


def picture_path(folder: Path, message: HelpRequest, camera: str) -> Path:
    """Where a picture of a call for help is kept; a camera's name leads nowhere else."""
    plain = re.sub(r"[^\w-]", "_", camera)
    return folder / f"{message.boot_id}-{message.grant}-{plain}.jpg"


class FailureWatcher(Node):
    """Hears the detector, the supervisor, and calls for help."""

    def __init__(self, pictures: Path | None = None, **options: Any) -> None:
        """Connects.

        Args:
            pictures: Folder for the pictures of calls for help; None = they are not kept.
            options: Of the node.
        """
        super().__init__("vla_failure_watch", **options)
        self.status: FailureStatus | None = None
        self.owner: ControlOwner | None = None
        self.help: HelpRequest | None = None
        self.seen_at = -math.inf
        self.shares: deque[float] = deque(maxlen=HISTORY)  # of the threshold, NaN = a new episode
        self._pictures = pictures
        self.create_subscription(FailureStatus, "failure/status", self._on_status, RELIABLE)
        self.create_subscription(ControlOwner, "control_owner", self._on_owner, RELIABLE)
        self.create_subscription(HelpRequest, "failure/help", self._on_help, LATCHED)

    def _on_status(self, message: FailureStatus) -> None:
        before, self.status, self.seen_at = self.status, message, time.monotonic()
        if before is None or (before.episode_id, before.step) != (message.episode_id, message.step):
            judged = message.step and message.threshold
            self.shares.append(message.score / message.threshold if judged else math.nan)

    def _on_owner(self, message: ControlOwner) -> None:
        self.owner = message

    def _on_help(self, message: HelpRequest) -> None:
        self.help = message
        if self._pictures is None:
            return
        self._pictures.mkdir(parents=True, exist_ok=True)
        for camera, picture in zip(message.cameras, message.pictures, strict=False):
            path = picture_path(self._pictures, message, camera)
            path.write_bytes(bytes(picture.data))

    @property
    def asks(self) -> HelpRequest | None:
        """The call for help that nobody has answered yet."""
        asked, owner = self.help, self.owner
        if asked is None or owner is None:
            return None
        unanswered = (owner.boot_id, owner.grant) == (asked.boot_id, asked.grant)
        return asked if unanswered else None


def panel(watcher: FailureWatcher) -> RenderableType:
    """What is known, for a terminal."""
    status = watcher.status
    if status is None:
        return Panel("no failure_node speaks", title="failure detector", style="yellow")
    word, style = STYLES.get(status.verdict, (str(status.verdict), "bold red"))
    if time.monotonic() - watcher.seen_at > SILENT:
        word, style = f"SILENT (was {word})", "bold red"
    grid = Table.grid(padding=(0, 2))
    rows = [
        ("verdict", Text(word, style=style)),
        ("reason", Text(status.reason)),
        ("owner", Text(describe_owner(watcher.owner))),
        ("episode", Text(f"{status.episode_id or '-'}, inference {status.step}")),
        ("score", Text(f"{_number(status.score)} of {_number(status.threshold)}")),
        ("margin", Text(f"{_number(status.margin)} widths of the band")),
        ("course", Text(course(list(watcher.shares)))),
        ("drift", Text(f"p = {_number(status.drift_p)}")),
        ("promise", Text(status.guarantee)),
        ("calibration", _calibration(status)),
        ("detector", Text(status.detector_id)),
        ("latency", Text(f"{1e3 * status.latency:.2f} ms")),
    ]
    for name, value in zip(status.signal_names, status.signal_values, strict=False):
        rows.append((f"  {name}", Text(f"{value:+.3f}")))
    for name, value in rows:
        grid.add_row(Text(name, style="dim"), value)
    parts: list[RenderableType] = [grid]
    if (asked := watcher.asks) is not None:
        cameras = ", ".join(asked.cameras) or "none yet"
        parts += [Text(), Text(f"asks for help: {asked.reason}", style="bold red")]
        parts += [Text(f"to do: {asked.instruction}; pictures: {cameras}")]
    return Panel(Group(*parts), title="failure detector", subtitle="Ctrl-C ends")


def line(watcher: FailureWatcher) -> str:
    """The same in one line."""
    status = watcher.status
    if status is None:
        return "no failure_node speaks"
    word, _ = STYLES.get(status.verdict, (str(status.verdict), ""))
    if time.monotonic() - watcher.seen_at > SILENT:
        word = f"SILENT (was {word})"
    return (
        f"{word} · {status.reason or 'judges'} · {describe_owner(watcher.owner)} · inference "
        f"{status.step} · score {_number(status.score)} of {_number(status.threshold)} · drift p "
        f"{_number(status.drift_p)} · calibration {status.calibration_id or 'NONE'}"
    )


def course(shares: list[float]) -> str:
    """Scores as shares of their thresholds, one bar each; a gap = a new episode."""
    return "".join(
        " "
        if not math.isfinite(share)
        else BARS[min(len(BARS) - 1, max(0, int(share * (len(BARS) - 1))))]
        for share in shares
    )


def _calibration(status: FailureStatus) -> Text:
    if not status.calibration_id:
        return Text("UNCALIBRATED: nothing can alarm", style="bold yellow")
    return Text(f"{status.calibration_id}, alpha {_number(status.alpha)}")


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def main(options: argparse.Namespace) -> int:
    """Shows the status until Ctrl-C, or for so long."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    watcher = FailureWatcher(options.pictures)
    spinner = spin_aside(watcher)
    console = Console(highlight=False)
    until = time.monotonic() + (options.seconds or math.inf)
    try:
        if console.is_terminal:
            _draw(watcher, console, until)
        else:
            _print(watcher, console, until)
    except KeyboardInterrupt:
        pass
    finally:
        rclpy.try_shutdown()
        spinner.join(timeout=5.0)
    return 0 if watcher.status is not None else 1


def _draw(watcher: FailureWatcher, console: Console, until: float) -> None:
    with Live(panel(watcher), console=console, refresh_per_second=5) as live:
        while time.monotonic() < until:
            time.sleep(PERIOD)
            live.update(panel(watcher))


def _print(watcher: FailureWatcher, console: Console, until: float) -> None:
    """A line for every change of the verdict, its reason or the owner."""
    told: Any = ()
    while time.monotonic() < until:
        status, owner = watcher.status, watcher.owner
        now = status and (status.verdict, status.reason, owner and (owner.state, owner.grant))
        if now != told:
            told = now
            console.print(line(watcher), soft_wrap=True)
        time.sleep(PERIOD)
