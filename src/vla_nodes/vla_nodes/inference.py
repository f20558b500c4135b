# SPDX-License-Identifier: Apache-2.0
"""Runs a policy in a thread of its own, paced by ROS time. No rclpy."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vla_data.observation import Observation, ObservationError

POLL_PERIOD = 0.02  # s (steady) between looks at the clock; new data wakes the thread at once


@dataclass(frozen=True)
class Assignment:
    """What the policy is to do.

    Attributes:
        active: It owns the arm.
        instruction: Instruction in force.
        instruction_id: Its number.
        since_ns: ROS time of the grant; older observations do not count.
        grant: Boot id and number of the grant.
    """

    active: bool = False
    instruction: str = ""
    instruction_id: int = 0
    since_ns: int = 0
    grant: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Inference:
    """One result. Latencies in s of steady time."""

    chunk: Any
    assignment: Assignment
    sequence: int
    encode_latency: float
    act_latency: float


@dataclass
class InferenceStatistics:
    """What has happened since the start. Written by the inference thread alone."""

    inferences: int = 0
    blocked: Counter[str] = field(default_factory=Counter)
    blocked_now: str = ""
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    failure: str = ""


class InferenceThread:
    """Infers when it is due, the observation is complete and the policy owns the arm.

    An observation that is missing or stale blocks the inference and is counted by what is wrong
    with it. It never falls back to an older one.
    """

    def __init__(
        self,
        policy: Any,
        observe: Callable[[int, str], Observation],
        now_ns: Callable[[], int],
        emit: Callable[[Inference], None],
        warm_up: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepares the thread.

        Args:
            policy: A ``vla_policy.Policy``.
            observe: ROS time (ns) and instruction to the newest complete observation; raises
                ObservationError.
            now_ns: ROS time, ns.
            emit: Called in the thread with each result.
            warm_up: Called in the thread before anything else.
        """
        self.statistics = InferenceStatistics()
        self._policy = policy
        self._observe = observe
        self._now_ns = now_ns
        self._emit = emit
        self._warm_up = warm_up
        spec = policy.spec
        self._period_ns = round(spec.execute_steps * spec.step_dt * 1e9)
        self._slack_ns = round(0.25 * spec.step_dt * 1e9)
        self._assignment = Assignment()
        self._wake = threading.Condition()
        self._stopping = False
        self._sequence = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread; an inference under way is finished first."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout=30.0)
            self._thread = None

    def assign(self, assignment: Assignment) -> None:
        """Sets what the policy is to do. Any thread."""
        with self._wake:
            if assignment.grant == self._assignment.grant:
                # The first heartbeat of a grant is the closest to it.
                assignment = Assignment(
                    assignment.active,
                    assignment.instruction,
                    assignment.instruction_id,
                    self._assignment.since_ns,
                    assignment.grant,
                )
            self._assignment = assignment
            self._wake.notify()

    def notify(self) -> None:
        """Says that there is new data. Any thread."""
        with self._wake:
            self._wake.notify()

    @property
    def assignment(self) -> Assignment:
        """What the policy is to do."""
        with self._wake:
            return self._assignment

    def _run(self) -> None:
        due_ns = 0
        grant = (0, 0)
        self._warm_up()
        while True:
            with self._wake:
                if self._stopping:
                    return
                self._wake.wait(POLL_PERIOD)
                if self._stopping:
                    return
                assignment = self._assignment
            if not assignment.active or not assignment.instruction:
                self.statistics.blocked_now = ""
                continue
            if assignment.grant != grant:
                grant, due_ns = assignment.grant, assignment.since_ns
            try:
                observed_ns = self._step(assignment, due_ns)
            except Exception as error:  # the thread must outlive a policy that fails once
                self.statistics.failure = f"{type(error).__name__}: {error}"
                self._block("inference failed")
                continue
            if observed_ns is not None:
                # Frames come on a grid with some jitter: one that is a little early is taken, so
                # that a period is not stretched by a whole frame.
                due_ns = observed_ns + self._period_ns - self._slack_ns

    def _step(self, assignment: Assignment, due_ns: int) -> int | None:
        now_ns = self._now_ns()
        if now_ns < due_ns:
            return None
        try:
            observation = self._observe(now_ns, assignment.instruction)
        except ObservationError as error:
            self._block(str(error), part=error.part)
            return None
        if observation.stamp_ns < due_ns:
            return None  # a newer frame is on its way
        self.statistics.blocked_now = ""
        began = time.monotonic()
        context = self._policy.encode(observation)
        encoded = time.monotonic()
        # An observation has all that a RobotState has.
        chunk = self._policy.act(context, observation)
        done = time.monotonic()
        self._sequence += 1
        self.statistics.inferences += 1
        self.statistics.latencies.append(done - began)
        self._emit(Inference(chunk, assignment, self._sequence, encoded - began, done - encoded))
        return observation.stamp_ns

    def _block(self, reason: str, part: str | None = None) -> None:
        # Counted once per spell, not once per look.
        if not self.statistics.blocked_now:
            self.statistics.blocked[part or reason] += 1
        self.statistics.blocked_now = reason
