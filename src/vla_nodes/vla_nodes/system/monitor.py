# SPDX-License-Identifier: Apache-2.0
"""What `vla up` sees of a running system: owner, controller, health, and the demo's clients."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.action import ActionClient
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger

from vla_msgs.action import RunTask
from vla_msgs.msg import ControllerState, ControlOwner
from vla_msgs.srv import ResetScene
from vla_nodes import convert
from vla_nodes.node_tools import CLOCK, RELIABLE, RateMeter

ERROR_LEVEL = 2  # DiagnosticStatus.ERROR
LASTING = 5.0  # s after which an error counts as one that will not go away by itself
STALE = 3.0  # s (steady) after which a status counts as gone


@dataclass(frozen=True)
class Health:
    """Last diagnostics of one node; ``level`` as in DiagnosticStatus."""

    level: int
    message: str
    values: dict[str, str]
    seen_at: float
    error_since: float | None = None


@dataclass
class Measurements:
    """Figures gathered over a run."""

    chunk_ages: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))  # s
    realtime_factors: list[float] = field(default_factory=list)
    torque_saturated: int = 0
    states: int = 0


class Monitor(Node):
    """Subscribes to the system; the demo's driver and the view read it from other threads."""

    def __init__(self) -> None:
        """Connects."""
        super().__init__("vla_up")
        self.owner: ControlOwner | None = None
        self.rival = False  # two supervisors talk at the same time
        self.controller: ControllerState | None = None
        self.health: dict[str, Health] = {}
        self.clock_ns = 0
        self.measured = Measurements()
        self.chunk_rate = RateMeter(4.0)
        self._sequence = (0, 0, 0)
        self._changed = threading.Condition()
        self.create_subscription(ControlOwner, "control_owner", self._on_owner, RELIABLE)
        self.create_subscription(ControllerState, "controller/state", self._on_state, RELIABLE)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        self.create_subscription(Clock, "/clock", self._on_clock, CLOCK)
        self.reset_scene = self.create_client(ResetScene, "sim/reset_scene")
        self.supervisor_stop = self.create_client(Trigger, "supervisor/stop")
        self.run_task = ActionClient(self, RunTask, "run_task")

    def _on_owner(self, message: ControlOwner) -> None:
        with self._changed:
            # A restarted supervisor has a newer boot id and the one before is silent.
            older = self.owner is not None and message.boot_id < self.owner.boot_id
            self.rival = self.rival or older
            if not older:
                self.owner = message
            self._changed.notify_all()

    def _on_state(self, message: ControllerState) -> None:
        self.controller = message
        self.measured.states += 1
        self.measured.torque_saturated += message.torque_saturated
        sequence = (message.boot_id, message.grant, message.sequence)
        if message.sequence and sequence != self._sequence:
            self._sequence = sequence
            self.measured.chunk_ages.append(message.chunk_age)
            self.chunk_rate.tick()

    def _on_clock(self, message: Clock) -> None:
        self.clock_ns = convert.from_time(message.clock)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        now = time.monotonic()
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            level = int.from_bytes(status.level, "little")
            with self._changed:
                before = self.health.get(status.name)
                since = before.error_since if before and before.error_since is not None else now
                self.health[status.name] = Health(
                    level, status.message, values, now, since if level >= ERROR_LEVEL else None
                )
                self._changed.notify_all()
            if "real-time factor" in values and self._autonomous():
                self.measured.realtime_factors.append(float(values["real-time factor"]))

    def _autonomous(self) -> bool:
        return self.owner is not None and self.owner.state == ControlOwner.STATE_AUTONOMOUS

    def value(self, node: str, key: str) -> float | None:
        """A number from a node's last diagnostics; None = it has not told or is silent."""
        health = self.health.get(node)
        if health is None or time.monotonic() - health.seen_at > STALE or key not in health.values:
            return None
        try:
            return float(health.values[key])
        except ValueError:
            return None

    def wait(self, predicate: Any, timeout: float, stop: threading.Event) -> bool:
        """Waits until ``predicate()`` holds, at most ``timeout`` s. Returns whether it does."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not predicate():
                remaining = deadline - time.monotonic()
                if remaining <= 0.0 or stop.is_set():
                    return bool(predicate())
                self._changed.wait(min(0.2, remaining))
        return True

    def lasting_error(self) -> str:
        """What a node has reported as an error for a while; empty = none has."""
        now = time.monotonic()
        with self._changed:
            for name, told in self.health.items():
                if told.error_since is not None and now - told.error_since > LASTING:
                    return f"{name}: {told.message}"
        return ""

    def missing(self, manager: str | None) -> list[str]:
        """What a demo still waits for; empty = everything is there."""
        missing = []
        if self.owner is None:
            missing.append("the supervisor's heartbeat (control_owner)")
        elif convert.from_time(self.owner.header.stamp) == 0:
            missing.append("the clock, at the supervisor")
        if self.controller is None:
            missing.append("the controller's state (controller/state)")
        if manager is not None:
            health = self.health.get(manager)
            if health is None:
                missing.append(f"the diagnostics of {manager}")
            elif health.level != 0:
                missing.append(health.message)
        return missing
