# SPDX-License-Identifier: Apache-2.0
"""The demo: lays a scene, gives the instruction, waits for the outcome, again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from action_msgs.msg import GoalStatus

from vla_msgs.action import RunTask
from vla_msgs.msg import ControlOwner
from vla_msgs.srv import ResetScene
from vla_nodes.node_tools import in_executor
from vla_nodes.supervision.types import Source, Verdict
from vla_nodes.system.monitor import Monitor

SERVICE_TIMEOUT = 20.0  # s of steady time for a scene to be laid or a goal to be taken
READY_TIMEOUT = 180.0  # s: a model has to be loaded
# An outcome must come, even when the simulation runs at a third of real time.
OUTCOME_SLACK = 3.0
OUTCOME_EXTRA = 60.0  # s
# s; longer than the recorder's tail, so that a bag does not show the next scene being laid.
PAUSE_AFTER_EPISODE = 0.6


class DemoError(RuntimeError):
    """The system does not do what the demo asks; the text says what is missing."""


@dataclass(frozen=True)
class Request:
    """One episode to run. An empty ``task`` is a free instruction in the scene as it is."""

    task: str
    seed: int
    instruction: str = ""


@dataclass(frozen=True)
class Episode:
    """One episode as it went; durations in s of ROS time, latency from image to forwarding."""

    request: Request
    instruction: str
    episode_id: str
    verdict: Verdict
    source: Source
    message: str
    duration: float
    chunks: int
    chunk_latency: float

    @property
    def success(self) -> bool:
        """Whether the task was fulfilled."""
        return self.verdict is Verdict.SUCCESS


class Demo(threading.Thread):
    """Runs episodes one after the other in a thread of its own."""

    def __init__(
        self,
        monitor: Monitor,
        requests: Sequence[Request],
        time_limit: float,
        manager: str | None,
        on_episode: Callable[[Episode], None],
        go_home: Callable[[], str] | None = None,
    ) -> None:
        """Prepares the thread.

        Args:
            monitor: Eyes and clients.
            requests: What to run.
            time_limit: s of ROS time per episode.
            manager: Full name of the lifecycle manager; None = there is none.
            on_episode: Called in the thread after each episode.
            go_home: Called before each episode that lays no scene; moves the arm home and returns
                why not, empty = it did.
        """
        super().__init__(name="demo", daemon=True)
        self.episodes: list[Episode] = []
        self.error = ""
        self.activity = "waits for the system"
        self._monitor = monitor
        self._requests = requests
        self._time_limit = time_limit
        self._manager = manager
        self._on_episode = on_episode
        self._go_home = go_home
        self._stop_asked = threading.Event()

    def stop(self) -> None:
        """Ends the thread; a task in force is canceled."""
        self._stop_asked.set()

    def run(self) -> None:
        """Runs all episodes."""
        try:
            self._wait_until_ready()
            for request in self._requests:
                if self._stop_asked.is_set():
                    break
                episode = self._run_episode(request)
                self.episodes.append(episode)
                self._on_episode(episode)
                self._stop_asked.wait(PAUSE_AFTER_EPISODE)
        except DemoError as error:
            if not self._stop_asked.is_set():
                self.error = str(error)
        self.activity = "done"

    def _wait_until_ready(self) -> None:
        monitor = self._monitor

        def decided() -> bool:
            return not monitor.missing(self._manager) or bool(monitor.lasting_error())

        ready = monitor.wait(decided, READY_TIMEOUT, self._stop_asked)
        if error := monitor.lasting_error():
            raise DemoError(f"not ready: {error}")
        if not ready:
            raise DemoError(f"not ready: {'; '.join(monitor.missing(self._manager))}")

    def _run_episode(self, request: Request) -> Episode:
        episode_id, instruction = "", request.instruction
        if request.task:
            self.activity = f"lays {request.task}, seed {request.seed}"
            laid = self._call(
                self._monitor.reset_scene,
                ResetScene.Request(task=request.task, seed=request.seed),
                "sim/reset_scene",
            )
            if not laid.success:
                raise DemoError(f"sim/reset_scene: {laid.message}")
            episode_id, instruction = laid.episode_id, instruction or laid.instruction
        elif self._go_home is not None:
            self.activity = "moves the arm home"
            if why := self._go_home():
                raise DemoError(f"not at home: {why}")
        goal = RunTask.Goal(
            instruction=instruction,
            task=request.task,
            time_limit=self._time_limit,
            episode_id=episode_id,
            seed=request.seed,
        )
        self.activity = instruction
        return self._follow(request, goal)

    def _follow(self, request: Request, goal: RunTask.Goal) -> Episode:
        monitor = self._monitor
        feedback: list[Any] = []
        if not monitor.run_task.wait_for_server(SERVICE_TIMEOUT):
            raise DemoError("the action run_task is not there")
        sent = in_executor(
            monitor,
            lambda: monitor.run_task.send_goal_async(
                goal, feedback_callback=lambda message: feedback.append(message.feedback)
            ),
        )
        handle = self._result(sent, SERVICE_TIMEOUT, "run_task did not take the goal")
        if not handle.accepted:
            raise DemoError(f"run_task refused the goal {goal.instruction!r}")
        boot_id = monitor.owner.boot_id if monitor.owner else 0
        pending = in_executor(monitor, handle.get_result_async)
        deadline = time.monotonic() + OUTCOME_SLACK * self._time_limit + OUTCOME_EXTRA
        canceled = False
        while not pending.done():
            restarted = monitor.owner is not None and monitor.owner.boot_id != boot_id
            if restarted or time.monotonic() > deadline:
                message = "the supervisor was restarted" if restarted else "no outcome came"
                return self._episode(request, goal, None, feedback, message)
            if monitor.owner is not None and monitor.owner.state == ControlOwner.STATE_ASKING:
                self.activity = "waits for the operator"
                deadline = max(deadline, time.monotonic() + OUTCOME_EXTRA)
            else:
                self.activity = goal.instruction
            if self._stop_asked.is_set() and not canceled:
                canceled = True
                in_executor(monitor, handle.cancel_goal_async)
                deadline = min(deadline, time.monotonic() + 5.0)
            monitor.wait(pending.done, 0.2, threading.Event())
        response = pending.result()
        lost = response.status == GoalStatus.STATUS_UNKNOWN
        return self._episode(request, goal, None if lost else response.result, feedback, "lost")

    def _episode(
        self, request: Request, goal: RunTask.Goal, result: Any, feedback: list[Any], why: str
    ) -> Episode:
        last = feedback[-1] if feedback else RunTask.Feedback()
        outcome = result.outcome if result is not None else None
        return Episode(
            request=request,
            instruction=goal.instruction,
            episode_id=result.episode_id if result is not None else goal.episode_id,
            verdict=Verdict(outcome.outcome) if outcome else Verdict.ABORTED,
            source=Source(outcome.outcome_source) if outcome else Source.NONE,
            message=outcome.message if outcome else why,
            duration=result.duration if result is not None else last.elapsed,
            chunks=last.chunks,
            chunk_latency=last.chunk_latency,
        )

    def _call(self, client: Any, request: Any, name: str) -> Any:
        if not client.wait_for_service(SERVICE_TIMEOUT):
            raise DemoError(f"the service {name} is not there")
        return self._result(client.call_async(request), SERVICE_TIMEOUT, f"{name} did not answer")

    def _result(self, future: Any, timeout: float, problem: str) -> Any:
        if not self._monitor.wait(future.done, timeout, self._stop_asked):
            raise DemoError(problem)
        return future.result()
