# SPDX-License-Identifier: Apache-2.0
"""supervisor_node: the only writer of the controller's input. See `supervision` for the rules."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from vla_failure.reaction import STEP_DT
from vla_msgs.action import RunTask
from vla_msgs.msg import (
    ActionChunk,
    ControllerState,
    ControlOwner,
    EpisodeEvent,
    FailureStatus,
    Outcome,
    TaskStatus,
    TeleopCommand,
)
from vla_msgs.srv import SetInstruction, SetPaused, SetSpeed
from vla_nodes import convert
from vla_nodes.configs import SupervisorConfig
from vla_nodes.convert.failure import from_failure_status, to_arm_state
from vla_nodes.convert.pace import paced
from vla_nodes.node_tools import (
    OK,
    RELIABLE,
    STEADY,
    WARN,
    Diagnostics,
    RateMeter,
    in_executor,
    run,
)
from vla_nodes.parameters import declare
from vla_nodes.supervision import exclusive
from vla_nodes.supervision.machine import Limits, Supervisor
from vla_nodes.supervision.types import (
    ChunkInfo,
    ControllerFault,
    EventKind,
    Goal,
    Source,
    State,
    Task,
    Verdict,
)

FEEDBACK_PERIOD = 0.2  # s
DETECTOR_ANSWERS = 1.0  # s (steady) that a reset waits for the failure detector's word
FAREWELL = 1.0  # s (steady) for the clients to hear of the end
NICENESS = -10


class SupervisorNode(Node):
    """Publishes the owner, forwards the policy's chunks, runs tasks.

    One thread runs everything, and nothing that it runs waits: whoever stops waits for nobody.
    What takes long (a task, a detector's answer after a reset) is a coroutine.
    """

    def __init__(self) -> None:
        """Declares parameters and builds everything."""
        super().__init__("supervisor")
        self._right = exclusive.hold(
            self.resolve_topic_name("control_owner"), self.context.get_domain_id()
        )
        self.config = declare(self, SupervisorConfig, "supervisor_node")
        limits = Limits(
            recorder_timeout=self.config.recorder_timeout,
            policy_timeout=self.config.policy_timeout,
            controller_timeout=self.config.controller_timeout,
            operator_timeout=self.config.operator_timeout,
            detector_timeout=self.config.detector_timeout,
        )
        self.core = Supervisor(time.time_ns(), limits)
        self._changed: Future = Future()  # done at the next change or heartbeat
        self._goals = 0  # in execution
        self._chunks = RateMeter()
        self._reset_sent_at = self._stop_sent_at = 0.0
        self._frames: dict[str, str] = {}  # in which the controller takes poses
        self._followed: ActionChunk | None = None  # the policy's last that passed, as it sent it
        self._followed_grant = 0

        self._owner_pub = self.create_publisher(ControlOwner, "control_owner", RELIABLE)
        self._chunk_pub = self.create_publisher(ActionChunk, "controller/action_chunk", RELIABLE)
        self._event_pub = self.create_publisher(EpisodeEvent, "episode/events", RELIABLE)

        subscriptions = (
            (ActionChunk, "policy/action_chunk", self._on_chunk),
            (ActionChunk, "teleop/action_chunk", self._on_operator_chunk),
            (TeleopCommand, "teleop/command", self._on_operator),
            (TaskStatus, "task/status", self._on_task_status),
            (ControllerState, "controller/state", self._on_controller),
            (FailureStatus, "failure/status", self._on_failure),
            (EpisodeEvent, "episode/events", self._on_event),
        )
        for kind, topic, callback in subscriptions:
            self.create_subscription(kind, topic, callback, RELIABLE)
        self._controller_stop = self.create_client(Trigger, "controller/stop")
        self._controller_reset = self.create_client(Trigger, "controller/reset")
        self.create_service(Trigger, "supervisor/stop", self._stop)
        # A group of its own: a reset that awaits the detector's answer keeps only other resets.
        self.create_service(
            Trigger,
            "supervisor/reset",
            self._reset,
            callback_group=MutuallyExclusiveCallbackGroup(),
        )
        self.create_service(SetPaused, "supervisor/set_paused", self._pause)
        self.create_service(SetInstruction, "supervisor/set_instruction", self._set_instruction)
        self.create_service(SetSpeed, "supervisor/set_speed", self._set_speed)
        # Steady time: the heartbeat must not depend on a clock that may stand still.
        self.create_timer(1.0 / self.config.heartbeat_rate, self._beat, clock=STEADY)
        self._diagnostics = Diagnostics(self, self.config.diagnostics_rate, self._health)
        self._server = ActionServer(
            self,
            RunTask,
            "run_task",
            execute_callback=self._execute,
            goal_callback=self._on_goal,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    def finish(self) -> None:
        """Ends the task in force, so that its client and the recorder hear of it."""
        with contextlib.suppress(TimeoutError):
            in_executor(self, self._end_task, 2.0 * FAREWELL)

    async def _end_task(self) -> None:
        if self.core.task is not None:
            self.core.stop("the supervisor was shut down", self.now_ns(), source=Source.NONE)
            self._publish_changes(beat=True)
        await self._until(lambda: self._goals == 0, FAREWELL)
        await self._changed  # another round of the executor, in which results are sent

    async def _until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Awaits a condition for at most so many s of steady time. Returns whether it came."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() >= deadline:
                return False
            await self._changed
        return True

    def now_ns(self) -> int:
        """ROS time, ns."""
        return int(self.get_clock().now().nanoseconds)

    # --- inputs -----------------------------------------------------------------------------------

    def _on_chunk(self, message: ActionChunk) -> None:
        info = ChunkInfo(
            convert.from_time(message.header.stamp), message.sequence, message.instruction_id
        )
        now_ns = self.now_ns()
        if self.core.on_chunk(info, now_ns) is None:
            self._followed, self._followed_grant = message, self.core.grant
            self._forward_paced(message, now_ns)
        self._publish_changes()

    def _forward_paced(self, message: ActionChunk, now_ns: int) -> None:
        chunk = paced(message, self.core.policy_time, now_ns)
        if chunk is not None:
            self._forward(chunk)

    def _on_operator(self, message: TeleopCommand) -> None:
        self.core.on_operator(message.device, message.enabled, self.now_ns())
        self._publish_changes()

    def _on_operator_chunk(self, message: ActionChunk) -> None:
        stamp_ns = convert.from_time(message.header.stamp)
        if self.core.on_operator_chunk(message.policy_id, stamp_ns) is None:
            self._forward(message)

    def _forward(self, message: ActionChunk) -> None:
        message.boot_id, message.grant = self.core.boot_id, self.core.grant
        self._chunk_pub.publish(message)
        self._chunks.tick()

    def _on_task_status(self, message: TaskStatus) -> None:
        by_operator = message.outcome.outcome_source == Outcome.SOURCE_OPERATOR
        self.core.judge(
            message.episode_id,
            message.task,
            convert.from_time(message.header.stamp),
            convert.known(Verdict, message.outcome.outcome, Verdict.UNKNOWN),
            message.outcome.message or message.details,
            self.now_ns(),
            Source.OPERATOR if by_operator else Source.SIMULATOR,
        )
        self._publish_changes()

    def _on_controller(self, message: ControllerState) -> None:
        in_fault = message.phase == ControllerState.PHASE_FAULT
        self.core.on_controller(
            in_fault,
            convert.known(ControllerFault, message.fault, ControllerFault.NUMERIC),
            self.now_ns(),
        )
        self._frames = {
            "base_frame": message.header.frame_id,
            "tool_frame": message.tool_frame,
        }
        # A state that cannot be read is none: what waits for it gives up in time.
        with contextlib.suppress(convert.ConversionError):
            self.core.on_arm(to_arm_state(message), self.now_ns())
        self._publish_changes()

    def _on_failure(self, message: FailureStatus) -> None:
        self.core.on_failure(from_failure_status(message), self.now_ns())
        self._publish_changes()
        self._wake()

    def _on_event(self, message: EpisodeEvent) -> None:
        if message.event == EventKind.RECORDING:
            self.core.on_recording(message.episode_id, self.now_ns())
        elif message.event == EventKind.NOTE and message.episode_id:
            self.core.on_recorder_note(message.text)
        self._publish_changes()

    def _beat(self) -> None:
        self.core.tick(self.now_ns())
        self._publish_changes(beat=True)
        self._retrace()

    def _retrace(self) -> None:
        """Sends the next part of the way back, once it is due."""
        found = self.core.next_retrace(self.now_ns())
        if found is None:
            return
        sequence, part = found
        message = convert.to_pose_chunk(part.stamp_ns, part.poses, step_dt=STEP_DT, **self._frames)
        message.sequence, message.policy_id = sequence, "recovery"
        self._forward(message)

    # --- services ---------------------------------------------------------------------------------

    def _stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.core.stop("stop requested", self.now_ns())
        self._publish_changes()
        reachable = self._controller_stop.service_is_ready()
        if reachable:
            self._controller_stop.call_async(Trigger.Request())
        response.success = reachable
        response.message = (
            "stopped" if reachable else "chunks are revoked; controller/stop is not there"
        )
        return response

    async def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        detection = self.core.detection
        spoke = detection.speaks
        response.success = self.core.reset(self.now_ns())
        response.message = "resetting" if response.success else "there is nothing to reset"
        self._publish_changes()
        # Whoever gives a task after this answer must not meet what the detector had latched.
        if not await self._until(
            lambda: detection.speaks >= spoke and not detection.objection(self.now_ns()),
            DETECTOR_ANSWERS,
        ):
            why = detection.objection(self.now_ns()) or "the failure detector does not answer"
            response.message += f"; {why}"
        return response

    def _pause(
        self, request: SetPaused.Request, response: SetPaused.Response
    ) -> SetPaused.Response:
        response.message = self.core.set_paused(request.paused, request.reason, self.now_ns())
        response.success = not response.message
        self._publish_changes()
        return response

    def _set_instruction(
        self, request: SetInstruction.Request, response: SetInstruction.Response
    ) -> SetInstruction.Response:
        response.message = self.core.set_instruction(
            request.instruction, request.task, self.now_ns()
        )
        response.success = not response.message
        self._publish_changes()
        return response

    def _set_speed(
        self, request: SetSpeed.Request, response: SetSpeed.Response
    ) -> SetSpeed.Response:
        now_ns, before = self.now_ns(), self.core.policy_time.speed
        response.message = self.core.set_speed(request.speed, request.reason, now_ns)
        response.success = not response.message
        if self.core.policy_time.speed != before:
            self._repeat(now_ns)
        self._publish_changes()
        return response

    def _repeat(self, now_ns: int) -> None:
        """Sends what is left of the policy's chunk in force once more, at the present speed."""
        message = self._followed
        if message is not None and self._followed_grant == self.core.grant:
            message.sequence = 0  # the policy's own next number stays free
            self._forward_paced(message, now_ns)

    # --- the action -------------------------------------------------------------------------------

    def _on_goal(self, goal: RunTask.Goal) -> GoalResponse:
        now_ns = self.now_ns()
        busy = self.core.state in (State.FAULT, State.TELEOP, State.RECOVERING, State.ASKING)
        if busy or now_ns <= 0 or not goal.instruction.strip() or goal.time_limit <= 0.0:
            self.get_logger().warning(
                f"goal refused: state {self.core.state.name}, instruction {goal.instruction!r}, "
                f"time_limit {goal.time_limit} s, ROS time {now_ns} ns"
            )
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    async def _execute(self, handle: Any) -> RunTask.Result:
        request = handle.request
        goal = Goal(
            request.instruction, request.task, request.time_limit, request.episode_id, request.seed
        )
        result = RunTask.Result()
        try:
            task = self.core.begin(goal, self.now_ns())
        except ValueError as error:
            handle.abort()
            result.outcome.outcome = int(Verdict.ABORTED)
            result.outcome.message = str(error)
            return result
        self._publish_changes(beat=True)
        self._goals += 1
        while task.outcome is None:
            await self._until(
                lambda: task.outcome is not None or handle.is_cancel_requested, FEEDBACK_PERIOD
            )
            if handle.is_cancel_requested:
                self.core.cancel(task, self.now_ns())
                self._publish_changes()
            handle.publish_feedback(self._feedback(task))
        self._goals -= 1
        return self._finish(handle, task, result)

    def _feedback(self, task: Task) -> RunTask.Feedback:
        return RunTask.Feedback(
            state=int(self.core.state),
            owner=int(self.core.owner),
            elapsed=task.duration(self.now_ns()),
            chunks=task.chunks,
            chunk_latency=task.chunk_latency,
        )

    def _finish(self, handle: Any, task: Task, result: RunTask.Result) -> RunTask.Result:
        verdict = task.outcome.verdict if task.outcome else Verdict.ABORTED
        if verdict is Verdict.CANCELED and handle.is_cancel_requested:
            handle.canceled()
        elif verdict in (Verdict.SUCCESS, Verdict.FAILURE):
            # The task was carried out to its end; the outcome says how it ended.
            handle.succeed()
        else:
            handle.abort()
        result.outcome = convert.to_outcome(task.outcome)
        result.duration = task.duration(self.now_ns())
        result.episode_id = task.episode_id
        return result

    # --- outputs ----------------------------------------------------------------------------------

    def _publish_changes(self, beat: bool = False) -> None:
        events = self.core.drain_events()
        for event in events:
            self._event_pub.publish(convert.to_episode_event(event))
            self.get_logger().info(f"{event.kind.name} {event.text}".rstrip())
        if events or beat:
            self._owner_pub.publish(convert.to_control_owner(self.core, self.now_ns()))
            self._wake()
        if self.core.controller_reset_wanted:
            self._send_reset()
        if self.core.controller_stop_wanted:
            self._send_stop()

    def _wake(self) -> None:
        """Has those who await a change look again."""
        self._changed.set_result(None)
        self._changed = Future()

    def _send_stop(self) -> None:
        """Stops the controller, again every half second until it has been done."""
        now = time.monotonic()
        if now - self._stop_sent_at < 0.5 or not self._controller_stop.service_is_ready():
            return
        self._stop_sent_at = now
        future = self._controller_stop.call_async(Trigger.Request())
        future.add_done_callback(self._on_stop_done)

    def _on_stop_done(self, future: Any) -> None:
        if future.result() is not None and future.result().success:
            self.core.controller_stop_wanted = False

    def _send_reset(self) -> None:
        """Asks the controller for a reset, again every half second until it has been done."""
        now = time.monotonic()
        if now - self._reset_sent_at < 0.5 or not self._controller_reset.service_is_ready():
            return
        self._reset_sent_at = now
        future = self._controller_reset.call_async(Trigger.Request())
        future.add_done_callback(self._on_reset_done)

    def _on_reset_done(self, future: Any) -> None:
        if future.result() is not None and future.result().success:
            self.core.controller_reset_wanted = False

    def _health(self) -> tuple[bytes, str, Mapping[str, Any]]:
        core = self.core
        values: dict[str, Any] = {
            "state": core.state.name,
            "grant": core.grant,
            "speed": core.policy_time.speed,
            "chunks forwarded": core.counters.forwarded,
            "chunk rate (Hz)": self._chunks.rate(),
            "policy silences": core.counters.policy_silences,
            "policy restarts": core.counters.policy_restarts,
        }
        for why, count in core.counters.dropped.items():
            values[f"dropped: {why.value}"] = count
        if core.controller_silent(self.now_ns()):
            return WARN, "controller/state is not published", values
        if core.state in (State.FAULT, State.RECOVERING, State.ASKING) or core.policy_silent:
            return WARN, core.reason, values
        return OK, f"{core.state.name}: {core.reason}", values


def main() -> int:
    """Runs the node."""
    # Where it is allowed, the heartbeat goes before those who compute on the same machine.
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    return run(SupervisorNode)


if __name__ == "__main__":
    sys.exit(main())
