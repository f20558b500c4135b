# SPDX-License-Identifier: Apache-2.0
"""Runs a policy in a thread of its own, paced by ROS time. No rclpy."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vla_data.observation import Observation, ObservationError
from vla_nodes.supervision.policy_time import PolicyTime

POLL_PERIOD = 0.02  # s (steady) between looks at the clock; new data wakes the thread at once
SHORTEST_PAUSE = 0.002  # s; ROS time may stand still shortly before an inference is due
REMEMBERED = 64  # chunks whose delay is still unknown


@dataclass(frozen=True)
class Assignment:
    """What the policy is to do.

    Attributes:
        active: It owns the arm.
        instruction: Instruction in force.
        instruction_id: Its number.
        since_ns: ROS time of the grant; older observations do not count.
        grant: Boot id and number of the grant.
        speed: Share of its own speed at which its motion runs.
        speed_since_ns: ROS time of the last change of that.
    """

    active: bool = False
    instruction: str = ""
    instruction_id: int = 0
    since_ns: int = 0
    grant: tuple[int, int] = (0, 0)
    speed: float = 1.0
    speed_since_ns: int = 0


@dataclass(frozen=True)
class Inference:
    """One result.

    Attributes:
        chunk: What the policy made.
        policy: Which made it.
        state: The robot's state that the chunk starts from; a ``vla_policy.RobotState`` or more.
        assignment: Under which it was made.
        sequence: Counts the chunks.
        encode_latency: s of steady time.
        act_latency: s of steady time.
        delay: s of ROS time from observations to when their chunks were taken up, typically.
        context_age: s of ROS time.
    """

    chunk: Any
    policy: Any
    state: Any
    assignment: Assignment
    sequence: int
    encode_latency: float
    act_latency: float
    delay: float
    context_age: float = 0.0


@dataclass
class InferenceStatistics:
    """What has happened since the start. Written by the inference thread alone.

    Attributes:
        inferences: Chunks made.
        blocked: Spells without inference, by what was wrong.
        blocked_now: What is wrong now; empty if nothing.
        latencies: Of the last inferences, s.
        failure: The last error of the policy.
        waiting_since: Steady time of the last chunk, or of the grant, s; None without a grant.
        late: Chunks that arrived when the one before had run out.
        context_age: Of the last chunk, s.
    """

    inferences: int = 0
    blocked: Counter[str] = field(default_factory=Counter)
    blocked_now: str = ""
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    failure: str = ""
    waiting_since: float | None = None
    late: int = 0
    context_age: float = 0.0


class InferenceThread:
    """Infers when it is due, the observation is complete and the policy owns the arm.

    An observation that is missing or stale blocks the inference and is counted by what is wrong
    with it. It never falls back to an older one. Another policy takes over between two inferences.

    Policy and schedule live in the policy's time (`supervision.policy_time`): what is due, stamps
    and delays are in it, so that both see an arm that is slowed down as one at full speed.
    """

    def __init__(
        self,
        policy: Any,
        schedule: Any,
        observe: Callable[[int, str], Observation],
        now_ns: Callable[[], int],
        emit: Callable[[Inference], None],
        warm_up: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepares the thread.

        Args:
            policy: A ``vla_policy.Policy``.
            schedule: A ``vla_policy.schedules.Schedule``.
            observe: ROS time (ns) and instruction to the newest complete observation; raises
                ObservationError.
            now_ns: ROS time, ns.
            emit: Called in the thread with each result.
            warm_up: Called in the thread before anything else.
        """
        self.statistics = InferenceStatistics()
        self._policy = policy
        self._next_policy: Any = None
        self._schedule = schedule
        self._observe = observe
        self._now_ns = now_ns
        self._emit = emit
        self._warm_up = warm_up
        self._slack_ns = round(0.25 * policy.spec.step_dt * 1e9)
        self._assignment = Assignment()
        self._time = PolicyTime()  # of the inference thread alone
        self._wake = threading.Condition()
        self._stopping = False
        self._sequence = 0
        self._blocked_part = ""
        self._sent: OrderedDict[int, int] = OrderedDict()  # policy ns from observation to stamp
        self._consumed: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)
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
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=30.0)
            self._thread = None

    def assign(self, assignment: Assignment) -> None:
        """Sets what the policy is to do. Any thread."""
        with self._wake:
            if assignment.grant == self._assignment.grant:
                # The first heartbeat of a grant is the closest to it.
                assignment = replace(assignment, since_ns=self._assignment.since_ns)
            if assignment.speed == self._assignment.speed:
                assignment = replace(assignment, speed_since_ns=self._assignment.speed_since_ns)
            self._assignment = assignment
            self._wake.notify_all()

    def notify(self) -> None:
        """Says that there is new data. Any thread."""
        with self._wake:
            self._wake.notify_all()

    def swap(self, policy: Any) -> None:
        """Lets another policy take over between two inferences. Any thread."""
        with self._wake:
            self._next_policy = policy
            self._wake.notify_all()

    def consumed(self, sequence: int, chunk_age: float) -> None:
        """Says which chunk the controller follows, and how old its stamp is, s. Any thread."""
        self._consumed.append((sequence, chunk_age))

    @property
    def policy(self) -> Any:
        """The policy that makes the chunks, or is about to."""
        with self._wake:
            return self._next_policy or self._policy

    @property
    def assignment(self) -> Assignment:
        """What the policy is to do."""
        with self._wake:
            return self._assignment

    def _run(self) -> None:
        due_ns = 0
        seen = 0  # inferences
        grant = (0, 0)
        instruction_id = 0
        told = self.statistics
        try:
            self._warm_up()
        except Exception as error:  # a server that is away may be back when it is needed
            told.failure = f"{type(error).__name__}: {error}"
            told.blocked[f"warm-up: {type(error).__name__}"] += 1
        while True:
            assignment = self._next_assignment(self._pause(due_ns, told.inferences > seen))
            seen = told.inferences
            if assignment is None:
                return
            self._time.set_speed(assignment.speed, assignment.speed_since_ns)
            if not assignment.active:
                told.blocked_now, told.waiting_since = "", None
                continue
            if told.waiting_since is None:
                told.waiting_since = time.monotonic()
            if not assignment.instruction.strip():
                self._block("instruction: is empty", part="instruction")
                continue
            if assignment.grant != grant:
                grant, due_ns = assignment.grant, self._time.of(assignment.since_ns)
                self._restart()
            elif assignment.instruction_id != instruction_id:
                self._restart()
            instruction_id = assignment.instruction_id
            try:
                due_ns = self._step(assignment, due_ns)
            except Exception as error:  # the thread must outlive a policy that fails once
                told.failure = f"{type(error).__name__}: {error}"
                self._block(f"failed: {told.failure}", part=f"inference: {type(error).__name__}")

    def _pause(self, due_ns: int, inferred: bool) -> float:
        """How long to wait for something new, s: until it is due; not at all if it is late."""
        left = (due_ns - self._time.of(self._now_ns())) * 1e-9
        if left > 0.0:
            return min(max(left, SHORTEST_PAUSE), POLL_PERIOD)
        return 0.0 if inferred else POLL_PERIOD

    def _next_assignment(self, pause: float) -> Assignment | None:
        """What to do, after something new or a pause, s; None: stop."""
        with self._wake:
            if not self._stopping:
                self._wake.wait(pause)
            return None if self._stopping else self._assignment

    def _restart(self) -> None:
        """A new grant, instruction or policy begins without the chunks of the one before."""
        self._schedule.reset()
        self._sent.clear()

    def _take_policy(self) -> Any:
        with self._wake:
            policy, self._next_policy = self._next_policy, None
        if policy is not None:
            self._policy = policy
            self._restart()
        return self._policy

    def _step(self, assignment: Assignment, due_ns: int) -> int:
        """Infers if it is due; returns when the next one is, in policy time."""
        now_ns = self._now_ns()
        if self._time.of(now_ns) < due_ns:
            return due_ns
        observed = self._observed(assignment, now_ns)
        if observed is None:
            return due_ns
        observation = _stamped(observed, self._time.of(observed.stamp_ns))
        if observation.stamp_ns < due_ns:
            return due_ns  # a newer frame is on its way
        policy = self._take_policy()
        self._measure_delays()
        began = time.monotonic()
        context = policy.encode(observation)
        encoded = time.monotonic()
        # An observation has all that a RobotState has.
        chunk = self._schedule.act(policy, context, observation)
        done = time.monotonic()
        delivered_ns = self._time.of(self._now_ns())
        chunk = self._schedule.deliver(chunk, delivered_ns)
        # An observation's stamp goes back to what it was, without a rounding.
        same = chunk.stamp_ns == observation.stamp_ns
        stamp_ns = observed.stamp_ns if same else self._time.to_ros(chunk.stamp_ns)
        offset_ns = chunk.stamp_ns - observation.stamp_ns
        chunk, encode_latency = _stamped(chunk, stamp_ns), encoded - began
        self._send(chunk, policy, observed, assignment, offset_ns, encode_latency, done - encoded)
        # Frames come on a grid with some jitter: one that is a little early is taken, so that a
        # period is not stretched by a whole frame.
        due: int = self._schedule.due_ns(observation.stamp_ns, delivered_ns) - self._slack_ns
        return due

    def _observed(self, assignment: Assignment, now_ns: int) -> Observation | None:
        try:
            return self._observe(now_ns, assignment.instruction)
        except ObservationError as error:
            self._block(str(error), part=error.part)
            return None

    def _send(
        self,
        chunk: Any,
        policy: Any,
        state: Any,
        assignment: Assignment,
        offset_ns: int,
        encode_latency: float,
        act_latency: float,
        context_age: float = 0.0,
    ) -> None:
        check_chunk(chunk, len(policy.spec.joint_names))
        told = self.statistics
        told.blocked_now, told.waiting_since = "", time.monotonic()
        told.context_age = context_age
        told.inferences += 1
        told.latencies.append(encode_latency + act_latency)
        self._sequence += 1
        self._sent[self._sequence] = offset_ns
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)
        self._emit(
            Inference(
                chunk,
                policy,
                state,
                assignment,
                self._sequence,
                encode_latency,
                act_latency,
                self._schedule.delay.typical / self._time.speed,
                context_age,
            )
        )

    def _measure_delays(self) -> None:
        """Takes over what the controller has said: the first age of each chunk is its delay."""
        heard = bool(self._consumed)
        while self._consumed:
            sequence, chunk_age = self._consumed.popleft()
            offset_ns = self._sent.pop(sequence, None)
            if offset_ns is not None:
                delay = chunk_age * self._time.speed + offset_ns * 1e-9
                self._schedule.delay.measured(max(0.0, delay))
                self.statistics.late += int(self._schedule.is_late)
        if heard and self._sequence in self._sent:
            self._restart()  # the last chunk is not followed: nothing goes on from it

    def _block(self, reason: str, part: str) -> None:
        # Counted once per spell, not once per look; another part is a spell of its own.
        told = self.statistics
        if not told.blocked_now or part != self._blocked_part:
            told.blocked[part] += 1
        told.blocked_now, self._blocked_part = reason, part


def _stamped(value: Any, stamp_ns: int) -> Any:
    return value if value.stamp_ns == stamp_ns else replace(value, stamp_ns=stamp_ns)


def check_chunk(chunk: Any, joints: int) -> None:
    """Refuses a chunk that no controller may be given, whichever policy made it.

    Args:
        chunk: A ``vla_policy.ActionChunk``.
        joints: Of the arm.

    Raises:
        ValueError: Naming what is not finite or of the wrong shape.
    """
    commanded, openings = chunk.commanded, chunk.gripper_opening
    if commanded.shape[1:] not in ((4, 4), (joints,)) or openings.shape != commanded.shape[:1]:
        raise ValueError(
            f"the chunk has references {commanded.shape} and openings {openings.shape}; valid: "
            f"(steps, 4, 4) or (steps, {joints}), and (steps,)"
        )
    name = "joint positions" if chunk.is_joint else "poses"
    for what, values in ((name, commanded), ("gripper openings", openings)):
        bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if bad.any():
            raise ValueError(f"the chunk's {what} are not finite from step {int(bad.argmax())} on")
