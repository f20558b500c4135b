# SPDX-License-Identifier: Apache-2.0
"""A running system and a node that watches it, for the system tests. No sleeps: predicates."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger

from vla_msgs.action import RunTask
from vla_msgs.msg import ActionChunk, ControllerState, ControlOwner
from vla_msgs.srv import SetPaused
from vla_nodes.node_tools import RELIABLE, in_executor
from vla_nodes.system import shared_memory
from vla_nodes.system.description import System
from vla_nodes.system.processes import LogFile, Process, ProcessGroup
from vla_nodes.system.up import environment

STARTED = 100.0  # s for a system to come up on a busy machine
SOON = 60.0  # s for anything else, a restart of the policy among it


def write_video(path: Path, frames: int = 30) -> None:
    """A video of noise, as a camera."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 15, (96, 96))
    rng = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8))
    writer.release()


class Running:
    """The processes of a system, restarted as its description says."""

    def __init__(self, system: System, log: Path, domain: int) -> None:
        self.log = log
        self._system = system
        self._environment = {**environment(), "ROS_DOMAIN_ID": str(domain)}
        self._stop = threading.Event()
        self._started = threading.Event()
        # Children die with the thread that started them, so one thread starts them all.
        self._thread = threading.Thread(target=self._run, name="system")
        self._thread.start()
        assert self._started.wait(STARTED)

    def process(self, name: str) -> Process:
        """The process of a node."""
        return next(one for one in self._group.processes if one.entry.name == name)

    def kill(self, name: str) -> None:
        """Ends a process as a crash would."""
        os.kill(self.process(name).pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends everything."""
        self._stop.set()
        self._thread.join(SOON)
        shared_memory.remove_stale()

    def _run(self) -> None:
        log = LogFile(self.log)
        self._group = ProcessGroup(self._system.nodes, log, self._environment)
        self._started.set()
        while not self._stop.wait(0.05):
            self._group.check()
        self._group.stop()
        log.close()


class Watcher(Node):
    """Sees what the supervisor and the controller do, and gives them commands."""

    def __init__(self, context: Context) -> None:
        super().__init__("watcher", context=context)
        self.states: list[ControllerState] = []
        self.owner: ControlOwner | None = None
        self.health: dict[str, tuple[int, str, dict[str, str]]] = {}
        self.granted: list[ActionChunk] = []
        self.task: Any = None
        self.create_subscription(ControllerState, "controller/state", self._on_state, RELIABLE)
        self.create_subscription(ControlOwner, "control_owner", self._on_owner, RELIABLE)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        self.create_subscription(
            ActionChunk, "controller/action_chunk", self.granted.append, RELIABLE
        )
        # What a stray process might send: the controller must not take it.
        self.stray = self.create_publisher(ActionChunk, "controller/action_chunk", RELIABLE)
        self.run_task = ActionClient(self, RunTask, "run_task")
        self.stop = self.create_client(Trigger, "supervisor/stop")
        self.reset = self.create_client(Trigger, "supervisor/reset")
        self.pause = self.create_client(SetPaused, "supervisor/set_paused")
        self.controller_stop = self.create_client(Trigger, "controller/stop")
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self)
        self._thread = threading.Thread(target=self._spin, name="watch", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def _on_state(self, message: ControllerState) -> None:
        self.states.append(message)

    def _on_owner(self, message: ControlOwner) -> None:
        self.owner = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            level = int.from_bytes(status.level, "little")
            self.health[status.name] = (level, status.message, values)

    # --- waiting ----------------------------------------------------------------------------------

    def wait(self, what: str, predicate: Callable[[], Any], timeout: float = SOON) -> Any:
        """Waits until a predicate gives something true, and returns that."""
        deadline = time.monotonic() + timeout
        while not (value := predicate()):
            assert time.monotonic() < deadline, f"{what}: not within {timeout} s; {self.summary()}"
            time.sleep(0.02)
        return value

    def summary(self) -> str:
        """What is known, for a failed test."""
        state = self.states[-1] if self.states else None
        phase = (state.phase, f"last rejected {state.last_reject_reason}") if state else "no state"
        owner = (self.owner.state, self.owner.reason) if self.owner else "no owner"
        health = {name: message for name, (_, message, _) in self.health.items()}
        return f"phase {phase}, owner {owner}, {health}"

    @property
    def state(self) -> ControllerState:
        """The controller's latest state."""
        return self.states[-1]

    def call(self, client: Any, request: Any) -> Any:
        """The answer of a service."""
        assert client.wait_for_service(SOON), f"{client.srv_name} is not there"
        future = client.call_async(request)
        return self.wait(client.srv_name, lambda: future.result() if future.done() else None)

    def wait_until_ready(self) -> None:
        """Waits until all nodes are active and the controller and supervisor talk."""
        self.wait(
            "ready",
            lambda: (
                self.states
                and self.owner
                and self.owner.header.stamp != Time()
                and self.health.get("/lifecycle_manager", (2, "", {}))[1] == "all nodes are active"
            ),
            STARTED,
        )

    def begin_at_rest(self) -> None:
        """Waits until nobody has the arm and it rests, and forgets what was seen before."""
        self.wait_until_ready()
        self.wait("idle", lambda: self.owner.state == ControlOwner.STATE_IDLE)
        self.wait_until_holding()
        self.states.clear()
        self.granted.clear()
        self.wait("states", lambda: self.states)

    def start_task(self, time_limit: float = 120.0) -> Any:
        """Asks for a circle and waits until the arm follows it."""
        assert self.run_task.wait_for_server(SOON)
        goal = RunTask.Goal(instruction="trace a circle", time_limit=time_limit)
        sent = in_executor(self, lambda: self.run_task.send_goal_async(goal))
        handle = self.wait("goal", lambda: sent.result() if sent.done() else None)
        assert handle.accepted
        self.task = handle
        return handle

    def wait_until_moving(self) -> None:
        """Waits until the arm tracks chunks and moves."""
        self.wait(
            "moving",
            lambda: self.state.phase == ControllerState.PHASE_TRACKING and speed(self.state) > 0.02,
        )

    def wait_until_holding(self) -> None:
        """Waits until the arm has come to rest in a hold."""
        self.wait(
            "holding",
            lambda: self.state.phase == ControllerState.PHASE_HOLDING and speed(self.state) < 0.005,
        )

    def end_task(self) -> None:
        """Ends what was begun, if it still goes on, and waits until the arm is free."""
        if self.task is not None:
            in_executor(self, self.task.cancel_goal_async)  # harmless when it has ended
        self.wait("an end", lambda: self.owner and not self.owner.episode_id)

    def result(self, handle: Any, timeout: float = SOON) -> Any:
        """The result of a task."""
        future = in_executor(self, handle.get_result_async)
        return self.wait(
            "result", lambda: future.result().result if future.done() else None, timeout
        )


def speed(state: ControllerState) -> float:
    """Speed of the tool point, m/s."""
    v = state.twist_tool_in_base.linear
    return float(np.linalg.norm([v.x, v.y, v.z]))


def position(state: ControllerState) -> np.ndarray:
    """Position of the tool in the base frame, m."""
    p = state.pose_tool_in_base.position
    return np.array([p.x, p.y, p.z])


def seconds(state: ControllerState) -> float:
    """Stamp of a state, s."""
    return state.header.stamp.sec + 1e-9 * state.header.stamp.nanosec


def assert_within_limits(states: list[ControllerState]) -> None:
    """The arm has moved as its limits say: torques, and no jump of the reference."""
    states = list(states)  # more of them arrive meanwhile
    assert len(states) > 10
    torques = np.array([state.tau_command for state in states])
    limits = np.array(states[0].tau_limit)
    assert np.isfinite(torques).all()
    assert (np.abs(torques) <= limits + 1e-9).all()
    times = np.array([seconds(state) for state in states])
    assert (np.diff(times) > 0).all()
    reference = np.array(
        [[p.x, p.y, p.z] for p in (state.reference_pose_tool_in_base.position for state in states)]
    )
    velocity = np.array(
        [[v.x, v.y, v.z] for v in (state.reference_twist_tool_in_base.linear for state in states)]
    )
    dt = np.diff(times)[:, None]
    # 1.0 m/s and 5 m/s² are the controller's own limits of the reference.
    assert np.linalg.norm(velocity, axis=1).max() < 1.0
    assert (np.linalg.norm(np.diff(velocity, axis=0), axis=1) < 5.5 * dt[:, 0]).all()
    # The reference moves as its velocity says: nothing has jumped. States that a busy machine has
    # told late are too far apart to say so.
    moved = np.diff(reference, axis=0) - 0.5 * (velocity[1:] + velocity[:-1]) * dt
    close = dt[:, 0] < 0.03
    assert close.any()
    assert np.abs(moved[close]).max() < 2e-3
