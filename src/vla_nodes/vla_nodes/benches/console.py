# SPDX-License-Identifier: Apache-2.0
"""What lies between an operator's hand and the arm: the console's page in a real browser.

A simulated Panda, a camera node that plays a film of 640 x 480 at 30 Hz, and the console run as
`vla up` runs them; headless Chromium has the page. Keys are timed where the page gets them, the arm
by the controller's states as they arrive here, both by the machine's clock.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.node import Node

from vla_msgs.msg import ControllerState, ControlOwner
from vla_nodes.console.access import TOKEN, new_token
from vla_nodes.node_tools import RELIABLE, spin_aside
from vla_nodes.system.description import (
    CONSOLE,
    MANAGER,
    SIMULATOR,
    NodeEntry,
    System,
    load_system,
    prepared,
)
from vla_nodes.system.processes import LogFile, ProcessGroup

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = ("--headless=new", "--no-sandbox", "--no-first-run", "--remote-debugging-port=0")
SOON = 60.0  # s
MOVES, STANDS = 0.003, 0.0005  # m/s of the reference
STAYS = 0.5  # s without motion: it holds for good
STATE_RATE = 200.0  # Hz of the controller's states: how finely its motion is timed
WATCH = """() => {
  window.presses = []; window.ages = {};
  addEventListener("keydown", e => {
    if (!e.repeat) window.presses.push(performance.timeOrigin + e.timeStamp); }, true);
  new MutationObserver(changes => { for (const one of changes) {
    const camera = one.target.dataset.camera;
    (window.ages[camera] ??= []).push(Number(one.target.dataset.age)); } }
  ).observe(document.getElementById("cameras"),
    {subtree: true, attributeFilter: ["data-age"]}); }"""


class ConsoleBenchError(RuntimeError):
    """It cannot be measured; the text says why."""


@dataclass(frozen=True)
class Rounds:
    """How much is measured.

    Attributes:
        presses: Keys.
        losses: Times that a page is closed, and that a browser is killed, and frozen.
        seconds: Of pictures.
    """

    presses: int
    losses: int
    seconds: float


class Arm(Node):
    """Hears the controller and the supervisor, and when."""

    def __init__(self, context: Context) -> None:
        """Connects."""
        super().__init__("console_bench", context=context)
        self.owner: ControlOwner | None = None
        self.state: ControllerState | None = None
        self.heard: list[tuple[float, float, int]] = []  # time, speed of the reference, phase
        self._changed = threading.Condition()
        self.create_subscription(ControlOwner, "control_owner", self._on_owner, RELIABLE)
        self.create_subscription(ControllerState, "controller/state", self._on_state, RELIABLE)

    def _on_owner(self, message: ControlOwner) -> None:
        self.owner = message

    def _on_state(self, message: ControllerState) -> None:
        v = message.reference_twist_tool_in_base.linear
        speed = float(np.linalg.norm([v.x, v.y, v.z]))
        with self._changed:
            self.state = message
            self.heard.append((time.time(), speed, message.phase))
            self._changed.notify_all()

    def first(
        self, what: str, since: float, holds: Callable[[float, int], bool], timeout: float = SOON
    ) -> float:
        """When something first held of the reference's speed and the phase, s since the epoch.

        Raises:
            ConsoleBenchError: It did not in time.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for at, speed, phase in self.heard:
                    if at >= since and holds(speed, phase):
                        return at
                if not self._changed.wait(deadline - time.monotonic()):
                    raise ConsoleBenchError(f"{what}: not within {timeout:g} s")

    def moves(self) -> bool:
        """Whether the reference moves."""
        with self._changed:
            return bool(self.heard) and self.heard[-1][1] > 10.0 * MOVES

    def held_since(self, began: float) -> float:
        """From when on the controller holds, and goes on to, s since the epoch."""
        while True:
            since = self.first("a hold", began, held)
            try:
                began = self.first("", since, lambda speed, phase: not held(speed, phase), STAYS)
            except ConsoleBenchError:
                return since

    def forget(self) -> None:
        """Drops what was heard."""
        with self._changed:
            self.heard.clear()

    def rest(self) -> None:
        """Waits until nobody has the arm and it stands."""
        wait(
            "the arm is nobody's", lambda: self.owner and self.owner.state == self.owner.STATE_IDLE
        )
        self.forget()
        self.first("the arm stands", 0.0, held)
        self.forget()


def held(speed: float, phase: int) -> bool:
    """Whether the controller holds."""
    return speed < STANDS and phase == ControllerState.PHASE_HOLDING


def wait(what: str, holds: Callable[[], Any]) -> None:
    """Waits until something holds.

    Raises:
        ConsoleBenchError: It did not in time.
    """
    deadline = time.monotonic() + SOON
    while not holds():
        if time.monotonic() > deadline:
            raise ConsoleBenchError(f"{what}: not within {SOON:g} s")
        time.sleep(0.01)


class Browser:
    """Chromium in a process group of its own, with the page open and the operator in the seat."""

    def __init__(self, playwright: Any, program: str, folder: Path) -> None:
        """Starts it."""
        profile = folder / f"profile{time.monotonic_ns()}"
        self._process = subprocess.Popen(
            [program, *SWITCHES, f"--user-data-dir={profile}", "about:blank"],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        port = profile / "DevToolsActivePort"
        wait("Chromium", lambda: port.is_file() and port.read_text().count("\n") > 0)
        where = f"http://127.0.0.1:{port.read_text().split()[0]}"
        self._browser = playwright.chromium.connect_over_cdp(where)
        self.page = self._browser.contexts[0].pages[0]
        self.page.set_default_timeout(1e3 * SOON)

    def open(self, address: str) -> Any:
        """Opens the console's page and takes the seat; returns the page."""
        self.page.goto(address)
        self.page.evaluate(WATCH)
        self.page.wait_for_selector("#seat:has-text('Take the seat'):enabled")
        self.page.click("#seat")
        self.page.wait_for_selector("#seat:has-text('Leave the seat')")
        return self.page

    def send(self, number: int) -> None:
        """A signal to all of its processes."""
        os.killpg(self._process.pid, number)

    def end(self) -> None:
        """Ends it, in whatever state it is."""
        self.send(signal.SIGKILL)
        self._process.wait()


def measure(
    rounds: Rounds,
    folder: Path,
    environment: dict[str, str],
    domain: int,
    progress: Callable[[], None],
) -> dict[str, float]:
    """Runs everything.

    Args:
        rounds: How much.
        folder: For what is written meanwhile.
        environment: Of the processes.
        domain: DDS domain that nobody else uses.
        progress: Called after each press and each loss.

    Returns:
        The figures of ``docs/benchmarks.md``.

    Raises:
        ConsoleBenchError: There is no browser, or something does not come in time.
    """
    program = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if program is None:
        raise ConsoleBenchError(f"no browser; valid: one of {', '.join(CHROMIUM)} on the PATH")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ConsoleBenchError("the Python package playwright is not installed") from None
    with _running(folder, environment, domain) as (arm, invite), sync_playwright() as playwright:

        def browser() -> Browser:
            return Browser(playwright, program, folder)

        figures = _hands_and_eyes(arm, browser(), invite, rounds, progress)
        for name, lose in LOSSES.items():
            times = _losses(arm, browser, invite, lose, rounds.losses, progress)
            figures[f"loss_to_hold_{name}_p50_ms"] = float(np.median(times))
            figures[f"loss_to_hold_{name}_max_ms"] = max(times)
    figures["loss_to_hold_max_ms"] = max(figures[f"loss_to_hold_{name}_max_ms"] for name in LOSSES)
    return figures


def _hands_and_eyes(
    arm: Arm,
    browser: Browser,
    invite: Callable[[], str],
    rounds: Rounds,
    progress: Callable[[], None],
) -> dict[str, float]:
    """Keys while the arm is held, and the pictures meanwhile."""
    page = browser.open(invite())
    try:
        page.keyboard.down("Space")
        wait("taken over", lambda: arm.owner and arm.owner.state == arm.owner.STATE_TELEOP)
        times = []
        for turn in range(rounds.presses):
            arm.first("the arm stands", 0.0, lambda speed, _: speed < STANDS)
            time.sleep(0.05 + 0.003 * (turn % 11))  # at no fixed time of any clock
            arm.forget()
            key = ("KeyR", "KeyF")[turn % 2]
            page.keyboard.down(key)
            moved = arm.first("the arm moves", 0.0, lambda speed, _: speed > MOVES)
            times.append(1e3 * moved - page.evaluate("window.presses.at(-1)"))
            page.keyboard.up(key)
            time.sleep(0.1)
            arm.forget()
            progress()
        page.keyboard.up("Space")
        page.evaluate("window.ages = {}")
        time.sleep(rounds.seconds)
        seen = page.evaluate("window.ages")
        arm.rest()
    finally:
        browser.end()
    film = next((ages for camera, ages in seen.items() if "film" in camera), [])
    if not film:
        raise ConsoleBenchError("no picture of the camera is shown")
    return {
        "console_round_trip_p50_ms": float(np.percentile(times, 50)),
        "console_round_trip_p95_ms": float(np.percentile(times, 95)),
        "camera_latency_p50_ms": float(np.percentile(film, 50)),
        "camera_latency_p95_ms": float(np.percentile(film, 95)),
        "camera_rate_hz": len(film) / rounds.seconds,
    }


def _losses(
    arm: Arm,
    browser: Callable[[], Browser],
    invite: Callable[[], str],
    lose: Callable[[Browser], None],
    count: int,
    progress: Callable[[], None],
) -> list[float]:
    """Times from when a page that moves the arm is lost until the controller holds, ms."""
    times = []
    for turn in range(count):
        one = browser()
        try:
            page = one.open(invite())
            page.keyboard.down("Space")
            page.keyboard.down(("KeyR", "KeyF")[turn % 2])
            arm.first("the arm moves", 0.0, lambda speed, _: speed > 10.0 * MOVES)
            time.sleep(0.3 + 0.007 * (turn % 11))
            wait("the arm moves", arm.moves)
            began = time.time()
            lose(one)
            times.append(1e3 * (arm.held_since(began) - began))
        finally:
            one.end()
        arm.rest()
        progress()
    return times


LOSSES: dict[str, Callable[[Browser], None]] = {
    "closed": lambda one: one.page.close(),
    "killed": lambda one: one.send(signal.SIGKILL),
    "frozen": lambda one: one.send(signal.SIGSTOP),  # as where the network is cut: nothing is said
}


@contextmanager
def _running(
    folder: Path, environment: dict[str, str], domain: int
) -> Iterator[tuple[Arm, Callable[[], str]]]:
    """The system, and what gives addresses that open the page."""
    token = new_token()
    values = {**environment, "ROS_DOMAIN_ID": str(domain), TOKEN: token}
    log = LogFile(folder / "processes.log")
    group = ProcessGroup(_system(folder).nodes, log, values)
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    arm = Arm(context)
    spinner = spin_aside(arm)
    cookies: list[str] = []
    try:
        wait("the arm", lambda: arm.state is not None and arm.owner is not None)
        text = folder / "processes.log"
        wait("the console", lambda: re.search(r"http\S+/#", text.read_text()))
        found = re.search(r"(http\S+)/#", text.read_text())
        assert found is not None
        origin = found[1]
        yield arm, lambda: _invitation(origin, token, cookies)
    finally:
        rclpy.shutdown(context=context)
        spinner.join(5.0)
        group.stop()
        log.close()


def _invitation(origin: str, token: str, cookies: list[str]) -> str:
    """A new address, asked for as a page would ask."""

    def post(path: str, body: str, headers: dict[str, str]) -> Any:
        asked = urllib.request.Request(
            f"{origin}/{path}", body.encode(), {"Origin": origin, **headers}, method="POST"
        )
        return urllib.request.urlopen(asked, timeout=SOON)

    if not cookies:
        cookies.append(post("session", token, {}).headers["set-cookie"].split(";")[0])
    answer = post("invitation", "", {"Cookie": cookies[0]})
    return str(json.loads(answer.read())["address"])


def _system(folder: Path) -> System:
    """A simulated arm, the console, and a camera of its own."""
    film = folder / "film.avi"
    _write_film(film)
    camera = NodeEntry(
        "film_camera",
        "camera_node",
        lifecycle=True,
        parameters={
            "device": str(film),
            "camera": "film",
            "width": 640,
            "height": 480,
            "rate": 30.0,
            "loop": True,
        },
        use_sim_time=True,
    )
    system = load_system("sim_franka")
    kept = (SIMULATOR, "supervisor_node", MANAGER)
    nodes = tuple(node for node in system.nodes if node.executable in kept)
    return prepared(
        replace(system, nodes=(*nodes, camera)),
        console=True,
        overrides={
            SIMULATOR: {
                "cameras": ["wrist"],
                "controller_state_rate": STATE_RATE,
                "joint_state_rate": STATE_RATE,  # also of the clock
            },
            CONSOLE: {"port": 0},
        },
    )


def _write_film(path: Path) -> None:
    """Ten seconds of smooth shapes that move, as a camera would see them."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (640, 480))
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (640, 480))
    for frame in range(300):
        picture = ground.copy()
        centre = (320 + round(200 * np.sin(frame / 20)), 240 + round(150 * np.cos(frame / 15)))
        cv2.circle(picture, centre, 60, (40, 200, 240), -1)
        writer.write(picture)
    writer.release()


def settings(rounds: Rounds) -> dict[str, Any]:
    """What was asked for, for the report."""
    return {**vars(rounds), "film": "640x480, 30 Hz", "losses": list(LOSSES)}
