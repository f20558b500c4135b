# SPDX-License-Identifier: Apache-2.0
"""An operator's device moves a simulated arm in real time, over DDS, and is lost.

All nodes are the real ones, each a process: simulation, supervisor, teleop_node, console. How long
a command takes to the first torque that follows it, and how long it takes from a loss until the arm
is told to stand.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_srvs.srv import Trigger

from vla_msgs.msg import ControllerState, ControlOwner
from vla_msgs.srv import SetPaused
from vla_nodes import convert
from vla_nodes.benches.operator_page import Page, Relay, open_session
from vla_nodes.node_tools import RELIABLE, STEADY, spin_aside
from vla_nodes.system.description import NodeEntry
from vla_nodes.system.processes import LogFile, ProcessGroup
from vla_nodes.teleop.clutch import Bounds, Input
from vla_nodes.teleop.driver import TeleopDriver

LOSSES = ("unplugged", "tab_closed", "network_cut", "network_slowed")
STATE_RATE = 500.0  # Hz
SPEED = 0.15  # m/s of the tool, the default of every device
DEVICE_PERIOD = 0.02  # s
SLOWED = 0.4  # s later comes what a slowed network carries
LOOK = 1.5  # s after a loss
STILL = 1e-3  # m/s and rad/s of the reference
SOON = 60.0  # s for anything that takes no longer on a machine that is busy
COMMANDS = 500
NEAR = 50  # states


class TakeoverBenchError(RuntimeError):
    """The bench could not be run to its end."""


class _Bench(Node):
    """Sees what the arm is told, and has a device of its own."""

    def __init__(self, context: Context) -> None:
        super().__init__("takeover_bench", context=context)
        # When each was received (s, steady) and what it says.
        self.states: deque[tuple[float, ControllerState]] = deque(maxlen=round(20 * STATE_RATE))
        self.owner: ControlOwner | None = None
        self.driver = TeleopDriver(self, "bench", Bounds(speed=SPEED))
        self.joy: Joy | None = None  # what the gamepad says
        self.twist: Input | None = None  # what this device says
        self.said: list[tuple[float, int]] = []  # when (s, steady), and as which chunk
        self._joys = self.create_publisher(Joy, "joy", 10)
        self.pause = self.create_client(SetPaused, "supervisor/set_paused")
        self.reset = self.create_client(Trigger, "supervisor/reset")
        self.create_subscription(ControllerState, "controller/state", self._on_state, RELIABLE)
        self.create_subscription(ControlOwner, "control_owner", self._on_owner, RELIABLE)
        self.create_timer(DEVICE_PERIOD, self._speak, clock=STEADY)
        spin_aside(self)

    def _on_state(self, message: ControllerState) -> None:
        self.states.append((time.monotonic(), message))

    def _on_owner(self, message: ControlOwner) -> None:
        self.owner = message

    def _speak(self) -> None:
        if self.joy is not None:
            self._joys.publish(self.joy)
        if self.twist is not None:
            now = time.monotonic()
            self.driver.hold(self.twist)
            if self.driver.owns:
                self.said.append((now, self.driver.sequence))

    # --- what the arm does ------------------------------------------------------------------------

    @property
    def state(self) -> ControllerState:
        """The latest of the controller."""
        return self.states[-1][1]

    @property
    def height(self) -> float:
        """Of the reference, m."""
        return float(self.state.reference_pose_tool_in_base.position.z)

    def resting(self) -> bool:
        """Whether it holds, and nobody has it."""
        owner = self.owner
        if owner is None or not self.states:
            return False
        if owner.state == ControlOwner.STATE_PAUSED and self.pause.service_is_ready():
            self.pause.call_async(SetPaused.Request(paused=False))
        idle = owner.state == ControlOwner.STATE_IDLE
        return idle and self.state.phase == ControllerState.PHASE_HOLDING

    def moves(self) -> bool:
        """Whether an operator moves it at full speed."""
        teleop = self.owner is not None and self.owner.state == ControlOwner.STATE_TELEOP
        return teleop and _speed(self.state) > 0.95 * SPEED


def _speed(state: ControllerState) -> float:
    """Larger of m/s and rad/s of the reference."""
    twist = convert.from_twist(state.reference_twist_tool_in_base)
    return float(max(np.linalg.norm(twist[:3]), np.linalg.norm(twist[3:])))


def _wait(what: str, predicate: Callable[[], Any], timeout: float = SOON) -> None:
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise TakeoverBenchError(f"{what}: not within {timeout:g} s")
        time.sleep(0.005)


def _joy(up: float, held: bool) -> Joy:
    """Of teleop_node's defaults."""
    axes = [0.0] * 6
    axes[4] = up
    return Joy(axes=axes, buttons=[0, 0, 0, 0, int(held), 0])


class _Losses:
    """Lets devices move the arm and be lost."""

    def __init__(self, bench: _Bench, address: str, seed: int) -> None:
        self._bench = bench
        self._session, self._origin, port = open_session(address)
        self._relay = Relay(port)
        self._rng = np.random.default_rng(seed)
        self._middle = bench.height

    def measure(self, loss: str) -> float:
        """From a loss at a random moment until the reference stands, s."""
        bench, relay = self._bench, self._relay
        bench.joy = _joy(0.0, False)  # lets go, after it was silent
        _wait("an arm at rest", bench.resting)
        up = 1.0 if bench.height < self._middle else -1.0
        page: Page | None = None
        if loss == "unplugged":
            bench.joy = _joy(up, True)
        else:
            bench.joy = None
            page = Page(self._session, self._origin, relay.port, up)
        _wait("an arm that moves", bench.moves)
        time.sleep(float(self._rng.uniform(0.0, 0.1)))
        lost = time.monotonic()
        if loss == "unplugged":
            bench.joy = None
        elif loss == "network_cut":
            relay.cut = True
        elif loss == "network_slowed":
            relay.delay = SLOWED
        elif page is not None:
            page.vanish()
        time.sleep(LOOK)
        if page is not None:
            page.vanish()
        relay.cut, relay.delay = False, 0.0
        moving = [at for at, state in list(bench.states) if at > lost and _speed(state) > STILL]
        return (moving[-1] if moving else lost) - lost + 1.0 / STATE_RATE

    def close(self) -> None:
        self._relay.close()


def _delays(bench: _Bench) -> np.ndarray:
    """From commands until the first cycle that follows each, s."""
    _wait("an arm at rest", bench.resting)
    bench.said.clear()
    began = time.monotonic()
    while len(bench.said) < COMMANDS and time.monotonic() < began + SOON:
        # Each command is another, so that none is followed before it has come.
        up = SPEED * np.sin(2.0 * np.pi * (time.monotonic() - began))
        bench.twist = Input(twist=np.array([0.0, 0.0, up, 0.0, 0.0, 0.0]))
        time.sleep(0.25 * DEVICE_PERIOD)
    time.sleep(0.1)
    bench.twist = None
    states = [(at, state) for at, state in list(bench.states) if at > began]
    bench.driver.let_go()
    stamps = np.array([1e-9 * convert.from_time(state.header.stamp) for _, state in states])
    received = np.array([at for at, _ in states])
    sequences = np.array([state.sequence for _, state in states])
    delays = []
    for at, number in bench.said:
        followed = np.flatnonzero((received > at) & (sequences >= number))
        if number == 0 or len(followed) == 0:
            continue
        first = int(followed[0])
        around = slice(max(0, first - NEAR), first + NEAR)
        # What is received soonest after its cycle tells when cycles are.
        cycle = stamps[first] + np.min(received[around] - stamps[around])
        delays.append(float(cycle - at))
    return np.array(delays)


def run(
    rounds: int,
    folder: Path,
    environment: Mapping[str, str],
    domain: int,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Measures; see ``docs/benchmarks.md`` for the names of the figures.

    Args:
        rounds: Losses of each kind.
        folder: For the processes' log.
        environment: Of the processes.
        domain: DDS domain, one that nobody else uses.
        progress: Called after each loss.

    Raises:
        TakeoverBenchError: Something that is needed does not happen.
        OSError: A process or a connection cannot be opened.
    """
    rates = {"joint_state_rate": STATE_RATE, "controller_state_rate": STATE_RATE, "tf_rate": 10.0}
    entries = (
        NodeEntry("sim", "sim_node", parameters=rates),
        NodeEntry("supervisor", "supervisor_node", use_sim_time=True),
        NodeEntry("teleop", "teleop_node", use_sim_time=True),
        NodeEntry("console", "console_node", parameters={"port": 0}, use_sim_time=True),
    )
    log = LogFile(folder / "takeover.log")
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    group = ProcessGroup(entries, log, {**environment, "ROS_DOMAIN_ID": str(domain)})
    try:
        bench = _Bench(context)
        _wait("the system", bench.resting)
        console = next(one for one in group.processes if one.entry.name == "console")
        _wait("the console", lambda: _address(console.tail))
        delays = _delays(bench)
        if len(delays) < COMMANDS // 2:
            raise TakeoverBenchError(f"only {len(delays)} of {COMMANDS} commands were followed")
        losses = _Losses(bench, _address(console.tail), 0)
        found = {loss: [] for loss in LOSSES}  # type: dict[str, list[float]]
        for _ in range(rounds):
            for loss in LOSSES:
                found[loss].append(losses.measure(loss))
                progress()
        losses.close()
    finally:
        group.stop()
        rclpy.shutdown(context=context)
        log.close()
    figures = {
        "command_to_torque_p50_ms": 1e3 * float(np.median(delays)),
        "command_to_torque_p99_ms": 1e3 * float(np.quantile(delays, 0.99)),
        "loss_to_hold_max_ms": 1e3 * max(max(of) for of in found.values()),
    }
    for loss, of in found.items():
        figures[f"loss_to_hold_p50_ms_{loss}"] = 1e3 * float(np.median(of))
        figures[f"loss_to_hold_max_ms_{loss}"] = 1e3 * max(of)
    return figures


def _address(lines: Any) -> str:
    """Of the console, as it has printed it; empty = not yet."""
    return next((found[0] for line in list(lines) if (found := re.findall(r"http\S+", line))), "")
