# SPDX-License-Identifier: Apache-2.0
"""Who owns the arm, and how a task runs: the supervisor's state machine, without ROS.

Every method takes the ROS time at which it is called, in ns. Times of one process only ever grow,
except when a simulated clock jumps back, which :meth:`Supervisor.tick` treats as the end of the
task in force. Not thread-safe: the adapter serialises the calls.

Rules:

* Each change of hands draws a new grant number; the controller drops what carries an older one.
  Whatever is not AUTONOMOUS therefore revokes the chunk in force, and the arm brakes to a hold.
* A chunk is forwarded only while AUTONOMOUS, and only when its observation is newer than the
  grant and was taken under the instruction in force.
* An operator's device takes the arm from the policy and from the way back, not from another
  device, and keeps it as long as it goes on saying, within a timeout, that somebody holds it
  enabled. A task in force waits: when the device lets go, the policy goes on from there; what was
  paused or asked for help still does. Where the device falls silent instead, the arm holds until
  it is told to go on. A device that was enabled while it could not have the arm, or that fell
  silent while it had it, has to let go first.
* The instruction of a task can be replaced: the policy then begins anew, under a grant of its own.
  An operator may slow the policy down (`policy_time`); its own speed is back with the end of the
  task.
* What a failure detector says is obeyed: STOP is a stop, BACKTRACK makes the arm go back
  (RECOVERING, under a grant of its own), everything else beyond WARN holds it (ASKING) until the
  operator lets it go on or gives up. Where a detector is required, its silence holds the arm too.
* Anyone may stop; FAULT is left only by :meth:`Supervisor.reset`, once the controller has left its
  own fault. The one exception is a controller that has lost the heartbeat: the heartbeat is this
  supervisor's own, so it asks for the reset itself (a restarted supervisor is accepted).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vla_failure.reaction import ArmState, Phase, RetraceChunk
from vla_nodes.supervision.detection import FINE, Detection, Word, describe
from vla_nodes.supervision.operator_devices import OperatorDevices
from vla_nodes.supervision.policy_time import PolicyTime
from vla_nodes.supervision.types import (
    SECOND,
    ChunkInfo,
    ControllerFault,
    Drop,
    Event,
    EventKind,
    Goal,
    Outcome,
    Owner,
    Source,
    State,
    Task,
    Verdict,
)

START_REPEAT = 1.0  # s
ANSWER_TIMEOUT = 2.0  # s for a detector to agree when the operator lets the policy go on


@dataclass(frozen=True)
class Limits:
    """Timeouts, s of ROS time.

    ``recorder_timeout`` 0 = an episode starts without a recorder, ``detector_timeout`` 0 = without
    a failure detector.
    """

    recorder_timeout: float = 0.0
    policy_timeout: float = 1.5
    controller_timeout: float = 1.0
    operator_timeout: float = 0.3
    detector_timeout: float = 0.0


@dataclass
class Counters:
    """What has happened since the start of this supervisor."""

    forwarded: int = 0
    dropped: dict[Drop, int] = field(default_factory=lambda: dict.fromkeys(Drop, 0))
    policy_silences: int = 0
    policy_restarts: int = 0


class Supervisor:
    """The state machine."""

    def __init__(self, boot_id: int, limits: Limits) -> None:
        """Starts IDLE with grant 1.

        Args:
            boot_id: Start of this supervisor, ns since the epoch; must grow from one to the next.
            limits: Timeouts.
        """
        if boot_id <= 0:
            raise ValueError(f"boot_id is {boot_id}; it must be positive")
        self.boot_id = boot_id
        self.grant = 1
        self.owner = Owner.NONE
        self.state = State.IDLE
        self.reason = "started"
        self.task: Task | None = None
        self.counters = Counters()
        self.device = ""  # that owns the arm
        self.policy_time = PolicyTime()
        self.controller_reset_wanted = False
        self.controller_stop_wanted = False
        self.detection = Detection(limits.detector_timeout)
        self._limits = limits
        self._instruction_id = 0
        self._events: list[Event] = []
        self._last_tick_ns: int | None = None
        self._last_chunk_ns: int | None = None
        self._last_sequence = 0
        self._grant_ns = 0
        self._pause_began_ns = 0
        self._told_ns = 0
        self._policy_silent = False
        self._resetting = False
        self._devices = OperatorDevices(limits.operator_timeout)
        self._controller_seen_ns: int | None = None
        self._recorder_text = "no recorder answered"
        self._answered_ns: int | None = None  # when the operator let the policy go on
        self._retraced = 0  # chunks of the way back
        self._afterwards = State.IDLE  # what an operator's hold on the arm ends in
        self._begins_here = False  # what the arm has done so far was not the policy's doing

    @property
    def instruction(self) -> str:
        """Instruction in force; empty = none."""
        return self.task.goal.instruction if self.task else ""

    @property
    def instruction_id(self) -> int:
        """Number of the instruction in force; 0 = none."""
        return self.task.instruction_id if self.task else 0

    def drain_events(self) -> list[Event]:
        """Events since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    def begin(self, goal: Goal, now_ns: int) -> Task:
        """Takes a new goal; one in force is preempted.

        Raises:
            ValueError: The goal is not valid, or the arm is stopped.
        """
        if not goal.instruction.strip():
            raise ValueError("the instruction is empty")
        if not 0.0 < goal.time_limit < 1e6:
            raise ValueError(f"time_limit is {goal.time_limit} s; valid range: (0, 1e6)")
        if now_ns <= 0:
            raise ValueError("ROS time has not begun; nobody publishes /clock")
        if self.state is State.FAULT:
            raise ValueError(f"stopped ({self.reason}); only a reset releases")
        if self.state is State.TELEOP:
            raise ValueError(f"the operator has the arm ({self.device})")
        if self.state is State.RECOVERING:
            raise ValueError(f"the arm goes back ({self.reason}); cancel that task first")
        if self.state is State.ASKING:
            raise ValueError(
                f"the arm holds and asks for help ({self.reason}): set_paused with false goes on, "
                "a reset gives up"
            )
        if objection := self.detection.objection(now_ns):
            raise ValueError(objection)
        if self.task is not None:
            self._end(Verdict.PREEMPTED, Source.OPERATOR, "a new goal took over", now_ns)
        self._instruction_id += 1
        episode_id = (
            goal.episode_id or f"{goal.task or 'free'}_{self.boot_id}_{self._instruction_id}"
        )
        self.task = Task(goal, episode_id, self._instruction_id, now_ns)
        self._begins_here = True
        self._tell_start(now_ns)
        if self._limits.recorder_timeout > 0.0:
            self._recorder_text = "no recorder answered"
            self._hand_over(State.IDLE, Owner.NONE, "waits for the recorder")
        else:
            self._grant_policy(now_ns)
        return self.task

    def on_recording(self, episode_id: str, now_ns: int) -> None:
        """A recorder has an open bag for the episode."""
        task = self.task
        waiting = task is not None and task.granted_ns is None and self.state is State.IDLE
        if waiting and task is not None and task.episode_id == episode_id:
            self._grant_policy(now_ns)

    def on_recorder_note(self, text: str) -> None:
        """A recorder says what it still waits for; the message of a later timeout."""
        self._recorder_text = text

    def cancel(self, task: Task, now_ns: int) -> None:
        """Ends the task, if it is still in force, at its client's wish."""
        if task is self.task:
            self._finish(Verdict.CANCELED, Source.OPERATOR, "canceled", "canceled", now_ns)

    def stop(self, reason: str, now_ns: int, *, source: Source = Source.OPERATOR) -> None:
        """Anyone may stop. The adapter stops the controller too."""
        self._resetting = False
        if self.state is not State.FAULT:
            self._emit(EventKind.STOP, now_ns, reason)
            self._fault(reason, source, now_ns)

    def reset(self, now_ns: int) -> bool:
        """Begins to leave FAULT, done once the controller reports no fault; gives up a task that
        asks for help; releases what a detector has latched.

        Returns:
            Whether there was anything to leave.
        """  # noqa: D205
        if self.state is State.FAULT:
            self._resetting = True
            self.controller_reset_wanted, self.controller_stop_wanted = True, False
        elif self.state is State.ASKING:
            self._finish(Verdict.ABORTED, Source.DETECTOR, self.reason, "given up", now_ns)
        elif self.state is not State.IDLE or not self.detection.objects:
            return False
        self.detection.forget()
        self._emit(EventKind.RESET, now_ns)
        return True

    def set_paused(self, paused: bool, reason: str, now_ns: int) -> str:
        """Pauses (a hold) or goes on. Returns why not; empty = done."""
        if paused and self.state is State.AUTONOMOUS:
            self._pause_began_ns = now_ns
            self._emit(EventKind.PAUSE, now_ns, reason)
            self._hand_over(State.PAUSED, Owner.NONE, reason or "paused")
            return ""
        if paused and self.state is State.RECOVERING:
            self.detection.reaction.ask(reason or "paused on its way back")
            self._react(now_ns)
            return ""
        if not paused and self.state is State.PAUSED:
            self._emit(EventKind.RESUME, now_ns, reason)
            self._go_on(reason or "goes on", now_ns)
            return ""
        if self.state is State.TELEOP and self._afterwards in (State.AUTONOMOUS, State.PAUSED):
            self._afterwards = State.PAUSED if paused else State.AUTONOMOUS
            what = "holds" if paused else "lets the policy go on"
            self._note(f"once {self.device} lets go, the arm {what} {reason}".rstrip(), now_ns)
            return ""
        if not paused and self.state is State.ASKING:
            # The detector forgets what it has latched when it hears of the reset, and says so.
            self._answered_ns = now_ns
            self._emit(EventKind.RESET, now_ns, reason or "the operator lets the policy go on")
            return ""
        return f"nothing to {'pause' if paused else 'resume'} in {self.state.name}"

    def set_instruction(self, instruction: str, task: str, now_ns: int) -> str:
        """Replaces the instruction of the task in force, and what it is judged by.

        The episode goes on. Returns why not; empty = done.
        """
        current = self.task
        if current is None:
            return f"no task is in force ({self.reason})"
        if not instruction.strip():
            return "the instruction is empty"
        if (instruction, task) == (current.goal.instruction, current.goal.task):
            return f"{instruction!r} is in force already"
        self._instruction_id += 1
        current.goal = replace(current.goal, instruction=instruction, task=task)
        current.instruction_id = self._instruction_id
        self._begins_here = True
        self._emit(EventKind.INSTRUCTION, now_ns, instruction)
        if self.state is State.AUTONOMOUS:
            self._grant_policy(now_ns, "the instruction was replaced")
        return ""

    def set_speed(self, speed: float, reason: str, now_ns: int) -> str:
        """Has the policy move at a share of its own speed. Returns why not; empty = done."""
        if self.task is None:
            return f"no task is in force ({self.reason})"
        try:
            self.policy_time.set_speed(speed, now_ns)
        except ValueError as error:
            return str(error)
        self._note(f"speed {speed:g} {reason}".rstrip(), now_ns)
        return ""

    def judge(
        self,
        episode_id: str,
        task: str,
        stamp_ns: int,
        verdict: Verdict,
        details: str,
        now_ns: int,
        source: Source = Source.SIMULATOR,
    ) -> None:
        """Takes a verdict on the task in force: the operator's, on whatever was asked for, or that
        of the judge of the scene on the scene's own task. Others are ignored.
        """  # noqa: D205
        current = self.task
        if current is None or current.granted_ns is None or episode_id != current.episode_id:
            return
        if source is not Source.OPERATOR and not current.goal.task:
            return
        if task != current.goal.task or stamp_ns < current.granted_ns:
            return
        if verdict not in (Verdict.SUCCESS, Verdict.FAILURE):
            return
        reason = f"ended: {verdict.name.lower()}"
        self._finish(verdict, source, details, reason, now_ns)

    def on_controller(self, in_fault: bool, fault: ControllerFault, now_ns: int) -> None:
        """Takes the controller's state."""
        self._controller_seen_ns = now_ns
        if not in_fault:
            if self.state is State.FAULT and self._resetting:
                self._resetting = False
                self._hand_over(State.IDLE, Owner.NONE, "reset")
            return
        if fault is ControllerFault.HEARTBEAT_LOST and self.state is not State.FAULT:
            if not self.controller_reset_wanted:
                self.controller_reset_wanted = True
                self._note("the controller had lost the heartbeat; it is released", now_ns)
            return
        if self.state is not State.FAULT:
            operator = fault is ControllerFault.STOP_REQUESTED
            self._emit(EventKind.FAULT, now_ns, fault.name)
            self._fault(
                f"controller: {fault.name}", Source.OPERATOR if operator else Source.NONE, now_ns
            )

    def on_chunk(self, chunk: ChunkInfo, now_ns: int) -> Drop | None:
        """Decides over a policy's chunk. None = forward it under the present boot id and grant."""
        task = self.task
        if self.state is not State.AUTONOMOUS or task is None or task.granted_ns is None:
            return self._drop(Drop.NOT_AUTONOMOUS)
        if chunk.instruction_id != task.instruction_id:
            return self._drop(Drop.OTHER_INSTRUCTION)
        if chunk.sequence <= self._last_sequence:
            # A source that starts counting anew is a new process: what the old one left behind
            # must not mix with it, and the controller takes sequences per grant.
            self.counters.policy_restarts += 1
            self._grant_policy(now_ns, "the policy restarted")
        if chunk.stamp_ns < self._grant_ns:
            return self._drop(Drop.BEFORE_GRANT)
        self._last_sequence = chunk.sequence
        self._last_chunk_ns = now_ns
        task.chunks += 1
        task.chunk_latency = (now_ns - chunk.stamp_ns) / SECOND
        self.counters.forwarded += 1
        if self._policy_silent:
            self._policy_silent = False
            self.reason = "the policy is back"
            self._note(self.reason, now_ns)
        return None

    def on_failure(self, word: Word, now_ns: int) -> None:
        """Takes a word of the failure detector."""
        if not self.detection.hear(word, self.boot_id, self.grant, now_ns):
            return
        if self.state is State.AUTONOMOUS:
            self.detection.reaction.on_verdict(
                word.decision, describe(word), word.margin, word.stamp_ns
            )
            self._react(now_ns)
        elif self._answered_ns is not None and word.decision in FINE:
            self._resume(now_ns)

    def on_arm(self, arm: ArmState, now_ns: int) -> None:
        """Takes what is measured of the arm."""
        if self.state in (State.AUTONOMOUS, State.RECOVERING):
            self.detection.reaction.on_arm(arm)
            self._react(now_ns)

    def next_retrace(self, now_ns: int) -> tuple[int, RetraceChunk] | None:
        """Number and content of the next chunk of the way back, once it is due."""
        if self.state is not State.RECOVERING:
            return None
        chunk = self.detection.reaction.chunk(now_ns)
        if chunk is None:
            return None
        self._retraced += 1
        return self._retraced, chunk

    def on_operator(self, device: str, enabled: bool, now_ns: int) -> None:
        """An operator's device says whether somebody holds it enabled."""
        if not enabled:
            self._devices.let_go(device)
            if self.state is State.TELEOP and device == self.device:
                self._give_back(f"{device} has let go", self._afterwards, now_ns)
            return
        pressed = self._devices.hold(device, now_ns)
        waits = self.state is State.IDLE and self.task is not None  # for the recorder
        if pressed and now_ns > 0 and not waits and self.state not in (State.TELEOP, State.FAULT):
            self._take_over(device, now_ns)

    def _take_over(self, device: str, now_ns: int) -> None:
        """Gives the arm to a device. A task in force stays, and its clock stands still."""
        if self.state in (State.AUTONOMOUS, State.RECOVERING):
            self._pause_began_ns = now_ns
        if self.state is State.RECOVERING:
            self.detection.reaction.ask(f"{device} took over on its way back")
        if self.state in (State.RECOVERING, State.ASKING):
            self._afterwards = State.ASKING
        else:
            self._afterwards = self.state
        self._begins_here = True
        self.device = device
        self._grant_ns = now_ns
        self._hand_over(State.TELEOP, Owner.OPERATOR, f"granted to {device}")
        self._emit(EventKind.GRANT, now_ns, f"grant {self.grant}: {self.reason}")

    def _give_back(self, why: str, afterwards: State, now_ns: int) -> None:
        """Takes the arm from a device: the policy goes on, or the arm holds."""
        if self.task is None:
            afterwards = State.IDLE
        if afterwards is State.AUTONOMOUS:
            self._go_on(f"{why}; the policy goes on", now_ns)
            return
        if afterwards is State.ASKING:
            why = f"{why}; {self.detection.reaction.reason}"
        self._hand_over(afterwards, Owner.NONE, why)
        self._note(why, now_ns)

    def on_operator_chunk(self, device: str, stamp_ns: int) -> Drop | None:
        """Decides over a chunk of an operator's device. None = forward it."""
        if self.state is not State.TELEOP or device != self.device:
            return self._drop(Drop.NOT_OPERATOR)
        if stamp_ns < self._grant_ns:
            return self._drop(Drop.BEFORE_GRANT)
        self.counters.forwarded += 1
        return None

    def tick(self, now_ns: int) -> None:
        """Checks every timeout."""
        jumped_back = self._last_tick_ns is not None and now_ns < self._last_tick_ns
        self._last_tick_ns = now_ns
        task = self.task
        if jumped_back:
            self._devices.forget()
        if self.state is State.TELEOP and not self._devices.is_held(self.device, now_ns):
            why = "the clock jumped back" if jumped_back else f"{self.device} is silent"
            self._devices.lose(self.device)
            # Nobody has let go: that the policy goes on has to be said.
            after = State.PAUSED if self._afterwards is State.AUTONOMOUS else self._afterwards
            self._give_back(why, after, now_ns)
        if task is None:
            return
        if jumped_back:
            why = "the clock jumped back"
            self._finish(Verdict.ABORTED, Source.NONE, why, why, now_ns)
        elif task.granted_ns is None:
            if now_ns - self._told_ns > START_REPEAT * SECOND:
                self._tell_start(now_ns)
            if now_ns - task.accepted_ns > self._limits.recorder_timeout * SECOND:
                why = f"not recorded: {self._recorder_text}"
                self._finish(Verdict.ABORTED, Source.TIMEOUT, why, why, now_ns)
        elif self.state is State.AUTONOMOUS:
            if self._running_ns(task, now_ns) > task.goal.time_limit * SECOND:
                why = f"not done within {task.goal.time_limit:g} s"
                self._finish(Verdict.FAILURE, Source.TIMEOUT, why, why, now_ns)
            else:
                self._watch_policy(now_ns)
                if self.detection.silent(self._grant_ns, now_ns):
                    self.detection.reaction.ask("the failure detector is silent")
        elif self.state is State.RECOVERING and self.controller_silent(now_ns):
            self.detection.reaction.ask("controller/state is not published; it does not go back")
        elif self._waits_too_long(now_ns):
            self._answered_ns = None
            why = self.detection.objection(now_ns) or "the failure detector is silent"
            self.reason = f"cannot go on: {why}"
            self._note(self.reason, now_ns)
        self._react(now_ns)

    def _react(self, now_ns: int) -> None:
        """Makes the state what the reaction to the detector has become."""
        reaction = self.detection.reaction
        if self.task is None or self.state not in (State.AUTONOMOUS, State.RECOVERING):
            return
        if reaction.phase is Phase.STOPPED:
            self.controller_stop_wanted = True
            self.stop(reaction.reason, now_ns, source=Source.DETECTOR)
        elif reaction.phase is Phase.ASKING:
            self._pause_began_ns = now_ns
            self._hand_over(State.ASKING, Owner.NONE, reaction.reason)
            self._emit(EventKind.PAUSE, now_ns, f"asks for help: {reaction.reason}")
        elif reaction.phase is Phase.FOLLOWING and self.state is State.RECOVERING:
            self._grant_policy(now_ns, "went back; the policy goes on")
        elif reaction.phase is Phase.BRAKING and self.state is State.AUTONOMOUS:
            self._retraced = 0
            self._hand_over(State.RECOVERING, Owner.RECOVERY, reaction.reason)
            self._emit(EventKind.GRANT, now_ns, f"grant {self.grant}: goes back: {self.reason}")

    def _waits_too_long(self, now_ns: int) -> bool:
        """Whether the operator has let the policy go on and the detector does not agree."""
        answered_ns = self._answered_ns
        return answered_ns is not None and now_ns - answered_ns > ANSWER_TIMEOUT * SECOND

    def _resume(self, now_ns: int) -> None:
        """Leaves ASKING: the operator has said so and the detector does not object."""
        self.detection.reaction.go_on()
        self._emit(EventKind.RESUME, now_ns)
        self._go_on("the operator lets the policy go on", now_ns)

    def _go_on(self, reason: str, now_ns: int) -> None:
        """Gives the arm back to the policy whose task had to wait."""
        self._count_pause(now_ns)
        self._grant_policy(now_ns, reason)

    def _count_pause(self, now_ns: int) -> None:
        if self.task is not None:
            self.task.paused_ns += max(0, now_ns - self._pause_began_ns)

    def controller_silent(self, now_ns: int) -> bool:
        """Whether the controller's state has not been seen for too long."""
        seen = self._controller_seen_ns
        return seen is None or now_ns - seen > self._limits.controller_timeout * SECOND

    @property
    def policy_silent(self) -> bool:
        """Whether the policy owns the arm and sends nothing."""
        return self._policy_silent

    def _watch_policy(self, now_ns: int) -> None:
        since = max(self._grant_ns, self._last_chunk_ns or 0)
        timeout = self._limits.policy_timeout / self.policy_time.speed
        if not self._policy_silent and now_ns - since > timeout * SECOND:
            self._policy_silent = True
            self.counters.policy_silences += 1
            self.reason = f"no chunk for {timeout:g} s; the arm holds"
            self._note(self.reason, now_ns)

    def _running_ns(self, task: Task, now_ns: int) -> int:
        since_ns = now_ns if task.granted_ns is None else task.granted_ns
        return now_ns - since_ns - task.paused_ns

    def _grant_policy(self, now_ns: int, reason: str = "granted to the policy") -> None:
        if self.task is not None and self.task.granted_ns is None:
            self.task.granted_ns = now_ns
        if self._begins_here:
            self._begins_here = False
            self.detection.reaction.begin()
        self._grant_ns = now_ns
        self._last_sequence = 0
        self._policy_silent = False
        self._hand_over(State.AUTONOMOUS, Owner.POLICY, reason)
        self._emit(EventKind.GRANT, now_ns, f"grant {self.grant}: {reason}")

    def _hand_over(self, state: State, owner: Owner, reason: str) -> None:
        self.grant += 1
        self._answered_ns = None
        self.state = state
        self.owner = owner
        self.reason = reason

    def _fault(self, reason: str, source: Source, now_ns: int) -> None:
        if self.task is not None:
            self._end(Verdict.ABORTED, source, reason, now_ns)
        self._resetting = False
        self._hand_over(State.FAULT, Owner.NONE, reason)

    def _finish(
        self, verdict: Verdict, source: Source, message: str, reason: str, now_ns: int
    ) -> None:
        """Ends the task and frees the arm, unless an operator has it."""
        self._end(verdict, source, message, now_ns)
        if self.state is not State.TELEOP:
            self._hand_over(State.IDLE, Owner.NONE, reason)

    def _end(self, verdict: Verdict, source: Source, message: str, now_ns: int) -> None:
        task = self.task
        if task is None:
            return
        if self.state in (State.PAUSED, State.ASKING, State.TELEOP):
            self._count_pause(now_ns)
        task.ended_ns = now_ns
        task.outcome = Outcome(verdict, source, message)
        self._emit(EventKind.END, now_ns, message)
        self.task = None
        self.policy_time.set_speed(1.0, now_ns)
        self._policy_silent = False

    def _tell_start(self, now_ns: int) -> None:
        # Repeated while nobody answers: a recorder that has just appeared has missed the first.
        self._told_ns = now_ns
        self._emit(EventKind.START, now_ns)

    def _drop(self, why: Drop) -> Drop:
        self.counters.dropped[why] += 1
        return why

    def _note(self, text: str, now_ns: int) -> None:
        self._emit(EventKind.NOTE, now_ns, text)

    def _emit(self, kind: EventKind, now_ns: int, text: str = "") -> None:
        self._events.append(Event(now_ns, kind, self.task, text))
