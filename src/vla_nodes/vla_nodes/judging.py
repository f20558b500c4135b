# SPDX-License-Identifier: Apache-2.0
"""What failure_node decides: which inferences are judged, and what it means if none comes.

No rclpy. Every method takes the ROS time at which it is called, ns. Not thread-safe: the adapter
serialises the calls. See ``vla_failure.monitor`` for the judging itself.

Rules:

* The supervisor's heartbeat says whose turn it is. A new instruction begins an episode; one that
  had begun before this process heard of it is not judged, but refused: its beginning is unknown.
* Every inference counts. One that was lost, came late, or cannot be read is refused, and so is a
  policy that owns the arm and sends nothing.
* What runs is taken from every single inference, so another policy is noticed with its first one.
* An operator may slow the policy down: an episode is as long as it would have been at full speed,
  and inferences may be farther apart (`supervision.policy_time`).
* What was refused or alarmed stays until the supervisor says that somebody has reset it, or that
  the arm has gone back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vla_failure.binding import Binding
from vla_failure.episodes import Float32Array, Start, Step
from vla_nodes.supervision.policy_time import PolicyTime
from vla_nodes.supervision.types import SECOND, State

if TYPE_CHECKING:
    # Loads every detector, which those who only convert messages do without.
    from vla_failure.monitor import Monitor

# s that this process's clock may be behind that of the observation: simulated time is told a
# hundred times a second, and hosts are never quite together.
CLOCK_TOLERANCE = 0.05
UNDER_WAY = (State.AUTONOMOUS, State.TELEOP, State.PAUSED, State.RECOVERING, State.ASKING)


@dataclass(frozen=True)
class Turn:
    """What the supervisor's heartbeat says.

    Attributes:
        stamp_ns: ROS time of the heartbeat.
        boot_id: Of the supervisor.
        grant: In force.
        state: Of the supervisor.
        instruction_id: Number of the instruction; 0 = none.
        episode_id: Of the episode; empty = none.
        task: Its task; empty = a free instruction.
        speed: Share of its own speed at which the policy's motion runs.
    """

    stamp_ns: int
    boot_id: int
    grant: int
    state: State
    instruction_id: int
    episode_id: str
    task: str
    speed: float = 1.0


@dataclass(frozen=True)
class Seen:
    """One inference as it was received.

    Attributes:
        stamp_ns: Of its observation.
        instruction_id: Under which it was observed.
        sequence: Counts the chunks of a policy's process.
        inference_id: Of the policy.
        running: How the policy is run; its latency as measured.
        features: (3, 3, W), aggregated.
        chunk: (H, 10).
        state: (S,).
    """

    stamp_ns: int
    instruction_id: int
    sequence: int
    inference_id: int
    running: Binding
    features: Float32Array
    chunk: Float32Array
    state: Float32Array


class Judging:
    """Gives a status at any time; see above.

    Args:
        monitor: That judges.
        feature_timeout: s of the policy's time without an inference of one that owns the arm.
        latency_tolerance: s by which the measured latency may differ from the calibrated one and
            still count as the same.
    """

    def __init__(self, monitor: Monitor, feature_timeout: float, latency_tolerance: float) -> None:
        self.status = monitor.waiting("waits for the supervisor")
        self.turn: Turn | None = None
        self.stamp_ns = 0  # of the observation that was judged last; 0 = none
        self.inference_id = 0
        self._monitor = monitor
        self._timeout_ns = round(feature_timeout * SECOND)
        self._tolerance = latency_tolerance
        self._time = PolicyTime()
        self._joined = False  # in the middle of the episode
        self._begun = False  # the episode's first inference has come
        self._episode_ns: int | None = None  # policy time of its first grant in it
        self._grant_ns = 0
        self._waits_since_ns = 0
        self._sequence: int | None = None  # of the last inference under this grant
        self._early: list[Seen] = []  # inferences of observations that the clock is behind

    @property
    def judges(self) -> bool:
        """Whether the policy owns the arm."""
        return self.turn is not None and self.turn.state is State.AUTONOMOUS

    def on_turn(self, turn: Turn, now_ns: int) -> None:
        """Takes a heartbeat."""
        before = self.turn
        if before is not None and turn.boot_id < before.boot_id:
            return  # of a supervisor that has been replaced
        self.turn = turn
        self._time.set_speed(turn.speed, turn.stamp_ns)
        if before is None or _episode(before) != _episode(turn):
            under_way = turn.state in UNDER_WAY and bool(turn.episode_id)
            self._joined = before is None and under_way
            self._begun, self._episode_ns = False, None
        elif self._joined:
            pass  # nothing has been judged
        elif before.state is State.RECOVERING and turn.state is State.AUTONOMOUS:
            self._monitor.went_back()
        elif turn.state is State.TELEOP and before.state is not State.TELEOP:
            # What the policy has led to says nothing of where the operator leaves the arm.
            self._monitor.reset()
        if before is not None and (before.grant, before.state) == (turn.grant, turn.state):
            return
        if turn.state is State.AUTONOMOUS:
            self._grant_ns, self._sequence = turn.stamp_ns, None
            self._waits_since_ns = max(now_ns, turn.stamp_ns)
            self._early.clear()
            if self._episode_ns is None:
                self._episode_ns = self._time.of(turn.stamp_ns)
            self._wait("waits for the first inference under this grant")
        else:
            self._wait("the policy does not own the arm")
        if self._joined:
            self._refuse("the episode began before this node: its beginning is not known")

    def on_reset(self) -> None:
        """Somebody has released what stands; what comes is judged anew from here."""
        self._monitor.reset()
        self._joined = False
        self._wait("reset")

    def on_inference(self, seen: Seen, now_ns: int) -> None:
        """Takes an inference.

        A process that stood still for a moment may hear of an inference before it hears of the
        time: it is judged when the clock has caught up, with its true age.
        """
        self._early.append(seen)
        self._judge_what_is_due(now_ns)

    def _judge_what_is_due(self, now_ns: int) -> None:
        while self._early and self._early[0].stamp_ns <= now_ns + CLOCK_TOLERANCE * SECOND:
            self._judge(self._early.pop(0), now_ns)

    def _judge(self, seen: Seen, now_ns: int) -> None:
        turn = self.turn
        if turn is None or turn.state is not State.AUTONOMOUS or not self._is_of(seen, turn):
            return
        self._waits_since_ns = now_ns
        expected, self._sequence = self._sequence, seen.sequence
        if expected is not None and seen.sequence != expected + 1:
            self._refuse(f"inference {expected + 1} did not come, but {seen.sequence}")
            return
        if not self._begun:
            self._begun = True
            running = seen.running
            self._monitor.start(
                Start(turn.episode_id, turn.task, "", running.step_dt, running.execute_steps)
            )
        self._monitor.rebind(self._bound(seen.running))
        step = Step(
            time=(self._time.of(seen.stamp_ns) - (self._episode_ns or 0)) / SECOND,
            features=seen.features,
            chunk=seen.chunk,
            state=seen.state,
        )
        self.status = self._monitor.judge(step, max(0, now_ns - seen.stamp_ns) / SECOND)
        self.stamp_ns, self.inference_id = seen.stamp_ns, seen.inference_id

    def on_unreadable(self, reason: str) -> None:
        """An inference came that cannot be read."""
        if self.judges:
            self._refuse(f"an inference that cannot be read: {reason}")

    def tick(self, now_ns: int) -> None:
        """Looks whether inferences still come."""
        self._judge_what_is_due(now_ns)
        waits_ns = self._time.of(now_ns) - self._time.of(self._waits_since_ns)
        if self.judges and waits_ns > self._timeout_ns:
            reason = f"no inference for {self._timeout_ns / SECOND / self._time.speed:g} s"
            if self._early:
                ahead = (self._early[0].stamp_ns - now_ns) / SECOND
                reason += f", but one that is {ahead:.1f} s ahead of the clock"
            self._refuse(reason)

    def _is_of(self, seen: Seen, turn: Turn) -> bool:
        """Whether an inference is of the instruction and grant in force; others move nothing."""
        return seen.instruction_id == turn.instruction_id and seen.stamp_ns >= self._grant_ns

    def _bound(self, running: Binding) -> Binding:
        """What runs, with the calibrated latency where the measured one is as good as that."""
        held = self._monitor.calibration
        if held is None:
            return running
        calibrated = held.binding.latency_s
        if abs(running.latency_s - calibrated) <= self._tolerance + 1e-6:
            return replace(running, latency_s=calibrated)
        return running

    def _refuse(self, reason: str) -> None:
        self.status = self._monitor.abstain(reason)

    def _wait(self, reason: str) -> None:
        self.status = self._monitor.waiting(reason)


def _episode(turn: Turn) -> tuple[int, int]:
    return turn.boot_id, turn.instruction_id
