# SPDX-License-Identifier: Apache-2.0
"""What the console's page sees of the robot and does to it: the ROS side, without network."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from rclpy.action import ActionClient
from rclpy.node import Node
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from vla_data import images
from vla_failure.decision import Decision
from vla_msgs.action import RunTask
from vla_msgs.msg import (
    ControllerState,
    ControlOwner,
    EpisodeEvent,
    FailureStatus,
    HelpRequest,
    Outcome,
    TaskStatus,
)
from vla_msgs.srv import SetInstruction, SetPaused, SetSpeed
from vla_nodes import convert
from vla_nodes.node_tools import LATCHED, RELIABLE, STEADY, EssentialThread
from vla_nodes.supervision.types import EventKind, Owner, State, Verdict
from vla_nodes.system.view import PHASES
from vla_nodes.teleop.clutch import Bounds, Input
from vla_nodes.teleop.corrections import Correction, Pace, Stop
from vla_nodes.teleop.driver import TeleopDriver
from vla_sim.typing import FloatArray

DEVICE = "console"
SNAPSHOT_RATE = 10.0  # Hz
CAMERA_PERIOD = 0.04  # s at least between two pictures of a camera
HELP_PICTURES = 8
CORRECTION_PERIOD = 0.02  # s
LOOK_PERIOD = 1.0  # s between looks for cameras
JPEG_QUALITY = 80
SILENT = 2.0  # s (steady) without a word of the supervisor
EVENTS = 50
COURSE = 300  # inferences whose score is remembered
IMAGE_TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}


@dataclass(frozen=True)
class Frame:
    """A picture as the page shows it; ``number`` counts those of its camera."""

    number: int
    taken: float  # s since the epoch
    jpeg: bytes


class ConsoleLink:
    """Belongs to a node, whose thread calls its methods where they do not say otherwise."""

    def __init__(self, node: Node, bounds: Bounds, max_opening: float) -> None:
        """Connects.

        Args:
            node: That is spun by one thread.
            bounds: What the operator may ask for.
            max_opening: Of the gripper, m.
        """
        self.bounds = bounds
        self.max_opening = max_opening
        self.driver = TeleopDriver(node, DEVICE, bounds)
        self.snapshot = "{}"  # JSON; may be read by any thread
        self.frames: dict[str, Frame] = {}  # may be read by any thread
        self.help_pictures: tuple[bytes, ...] = ()  # may be read by any thread
        self.watchers = 0  # pages that look; written by the server's thread alone
        self._node = node
        self._failure: FailureStatus | None = None
        self._help: HelpRequest | None = None
        self.events: deque[dict[str, Any]] = deque(maxlen=EVENTS)  # may be copied by any thread
        self.course: deque[tuple[int, float, float]] = deque(maxlen=COURSE)  # the same
        self._event_count = 0
        self._problem = ""
        self._correction: tuple[Correction, float, FloatArray | None] | None = None
        self._cameras: dict[str, Any] = {}  # subscription by topic
        self._raw: dict[str, tuple[float, Image | CompressedImage]] = {}
        self._fresh = threading.Event()
        node.create_subscription(FailureStatus, "failure/status", self._on_failure, RELIABLE)
        node.create_subscription(HelpRequest, "failure/help", self._on_help, LATCHED)
        node.create_subscription(EpisodeEvent, "episode/events", self._on_event, RELIABLE)
        self._event_pub = node.create_publisher(EpisodeEvent, "episode/events", RELIABLE)
        self._verdict_pub = node.create_publisher(TaskStatus, "task/status", RELIABLE)
        self._stop = node.create_client(Trigger, "supervisor/stop")
        self._reset = node.create_client(Trigger, "supervisor/reset")
        self._pause = node.create_client(SetPaused, "supervisor/set_paused")
        self._instruct = node.create_client(SetInstruction, "supervisor/set_instruction")
        self._speed = node.create_client(SetSpeed, "supervisor/set_speed")
        self._run_task = ActionClient(node, RunTask, "run_task")
        node.create_timer(1.0 / SNAPSHOT_RATE, self._take_snapshot, clock=STEADY)
        node.create_timer(CORRECTION_PERIOD, self._correct, clock=STEADY)
        node.create_timer(LOOK_PERIOD, self._look_for_cameras, clock=STEADY)
        EssentialThread(target=self._encode, name="pictures", daemon=True).start()

    # --- what the system says ---------------------------------------------------------------------

    def _on_failure(self, message: FailureStatus) -> None:
        self._failure = message
        step, last = message.step, self.course[-1][0] if self.course else 0
        if step < last:
            self.course.clear()
        if step != last and math.isfinite(message.score) and math.isfinite(message.threshold):
            self.course.append((step, round(message.score, 6), round(message.threshold, 6)))

    def _on_help(self, message: HelpRequest) -> None:
        self._help = message
        self.help_pictures = tuple(bytes(one.data) for one in message.pictures[:HELP_PICTURES])

    def _on_event(self, message: EpisodeEvent) -> None:
        if message.event == EventKind.RECORDING:
            return
        self._event_count += 1
        text = message.text
        if message.event == EventKind.END:
            verdict = convert.known(Verdict, message.outcome.outcome, Verdict.UNKNOWN)
            text = f"{verdict.name.lower()} {message.outcome.message}".rstrip()
        elif message.event in (EventKind.START, EventKind.INSTRUCTION):
            text = message.instruction
        self.events.append(
            {
                "number": self._event_count,
                "time": round(convert.from_time(message.header.stamp) / 1e9, 3),
                "kind": convert.known(EventKind, message.event, EventKind.NOTE).name,
                "episode": message.episode_id,
                "text": text,
            }
        )

    def _look_for_cameras(self) -> None:
        there: dict[str, Any] = {}
        if self.watchers > 0:
            for topic, kinds in self._node.get_topic_names_and_types():
                kind = next((IMAGE_TYPES[name] for name in kinds if name in IMAGE_TYPES), None)
                if kind is not None and self._node.count_publishers(topic) > 0:
                    there[topic] = kind
        for topic in [one for one in there if f"{one}/compressed" in there]:
            del there[topic]  # it comes as a picture, too
        for topic in self._cameras.keys() - there.keys():
            self._node.destroy_subscription(self._cameras.pop(topic))
            self._raw.pop(topic, None)
            self.frames.pop(topic, None)
        for topic in there.keys() - self._cameras.keys():
            self._cameras[topic] = self._node.create_subscription(
                there[topic], topic, partial(self._on_picture, topic), 1
            )

    def _on_picture(self, topic: str, message: Image | CompressedImage) -> None:
        self._raw[topic] = (time.time() - self._age(message), message)
        self._fresh.set()

    def _age(self, message: Image | CompressedImage) -> float:
        """Of an image, s; 0 where nobody says what time it is.

        The supervisor's heartbeat does, whether this node knows of a simulated clock or not.
        """
        owner, silence = self.driver.owner, time.monotonic() - self.driver.heard_at
        if owner is None or silence > SILENT:
            return 0.0
        ago = convert.from_time(owner.header.stamp) - convert.from_time(message.header.stamp)
        return 1e-9 * ago + silence

    def _encode(self) -> None:
        """Makes pictures of images, in a thread of its own: the newest of each camera."""
        numbers: dict[str, int] = {}
        due: dict[str, float] = {}  # s (steady), of the next of a camera
        while True:
            waits = [due.get(topic, 0.0) - time.monotonic() for topic in list(self._raw)]
            if min(waits, default=1.0) > 0.0:
                self._fresh.wait(min(waits, default=None))
                self._fresh.clear()
                continue
            for topic in list(self._raw):
                now = time.monotonic()
                found = self._raw.pop(topic, None) if now >= due.get(topic, 0.0) else None
                if found is None:
                    continue
                due[topic] = now + CAMERA_PERIOD
                try:
                    jpeg = _jpeg(found[1])
                except (ValueError, cv2.error) as error:
                    self._problem = f"{topic}: {error}"
                    continue
                numbers[topic] = numbers.get(topic, 0) + 1
                self.frames[topic] = Frame(numbers[topic], found[0], jpeg)

    # --- what the page sees -----------------------------------------------------------------------

    def _take_snapshot(self) -> None:
        if self.watchers == 0:
            return
        owner, driver = self.driver.owner, self.driver
        told: dict[str, Any] = {
            "problem": driver.problem or self._problem,
            "holds": driver.owns,
            "cameras": sorted(self._cameras),
            "speed": self.bounds.speed,
            "turning": self.bounds.turning,
        }
        if owner is not None:
            told["owner"] = {
                "state": convert.known(State, owner.state, State.FAULT).name,
                "owner": convert.known(Owner, owner.owner, Owner.NONE).name,
                "reason": owner.reason,
                "instruction": owner.instruction,
                "episode": owner.episode_id,
                "task": owner.task,
                "grant": owner.grant,
                "speed": _number(owner.speed),
                "silent": time.monotonic() - driver.heard_at > SILENT,
            }
        if driver.state is not None:
            told["arm"] = _arm(driver.state)
        if self._failure is not None:
            told["failure"] = _failure(self._failure)
        if owner is not None and owner.state == State.ASKING:
            told["help"] = self._asked(owner)
        self.snapshot = json.dumps(told, separators=(",", ":"))

    def _asked(self, owner: ControlOwner) -> dict[str, Any]:
        """What the arm that holds asks the operator, with the names of the pictures."""
        asked = self._help
        if asked is None or (asked.boot_id, asked.grant) != (owner.boot_id, owner.grant):
            return {"reason": owner.reason, "instruction": owner.instruction, "cameras": []}
        shown = len(self.help_pictures)
        return {
            "reason": asked.reason,
            "instruction": asked.instruction,
            "cameras": list(asked.cameras[:shown]),
        }

    # --- what the page does -----------------------------------------------------------------------

    def post(self, call: Callable[[], Any]) -> None:
        """Has the node's thread do it, from any thread."""
        executor = self._node.executor
        if executor is not None:
            executor.create_task(call)

    def hold(self, said: Input) -> None:
        """The operator holds the arm and asks for this motion."""
        self._correction = None
        self.driver.hold(said)

    def let_go(self) -> None:
        """The operator gives the arm back."""
        self._correction = None
        self.driver.let_go()

    def correct(
        self, text: str, correction: Correction | Pace | Stop, tell: Callable[[str], None]
    ) -> None:
        """Takes the arm for a motion that ends by itself, and gives it back; or has the policy go
        on at another speed, or stops the arm.
        """  # noqa: D205
        self.note(f"correction: {text}")
        if isinstance(correction, Stop):
            self.stop(tell)
            return
        if isinstance(correction, Pace):
            owner = self.driver.owner
            speed = correction.of(1.0 if owner is None else owner.speed)
            self._call(self._speed, SetSpeed.Request(speed=speed, reason=text), tell)
            return
        self._correction = (correction, time.monotonic() + correction.time, None)

    def _correct(self) -> None:
        if self._correction is None:
            return
        correction, until, start = self._correction
        state = self.driver.state
        if state is None or time.monotonic() > until:
            self.let_go()
            return
        if self.driver.owns:
            pose = convert.from_pose(state.reference_pose_tool_in_base)
            if start is None:
                until = time.monotonic() + correction.time
                self._correction = (correction, until, pose)
            elif correction.done(_moved(start, pose)):
                self.let_go()
                return
        self.driver.hold(correction.said(self.max_opening))

    def stop(self, tell: Callable[[str], None]) -> None:
        """Stops the arm. ``tell`` hears what went wrong; empty = nothing."""
        self._call(self._stop, Trigger.Request(), tell)

    def reset(self, tell: Callable[[str], None]) -> None:
        """Releases a stop, gives up what asks for help."""
        self._call(self._reset, Trigger.Request(), tell)

    def pause(self, paused: bool, tell: Callable[[str], None]) -> None:
        """Has the policy wait or go on."""
        self._call(self._pause, SetPaused.Request(paused=paused), tell)

    def start(
        self, instruction: str, task: str, time_limit: float, tell: Callable[[str], None]
    ) -> None:
        """Gives the robot something to do."""
        if not self._run_task.server_is_ready():
            tell("the supervisor is not there")
            return
        goal = RunTask.Goal(instruction=instruction, task=task, time_limit=time_limit)
        sent = self._run_task.send_goal_async(goal)

        def on_answer(future: Any) -> None:
            tell("" if future.result().accepted else "refused: see the supervisor's state")

        sent.add_done_callback(on_answer)

    def instruct(self, instruction: str, task: str, tell: Callable[[str], None]) -> None:
        """Replaces the instruction of the task under way; the episode goes on."""
        request = SetInstruction.Request(instruction=instruction, task=task)
        self._call(self._instruct, request, tell)

    def instead(self, instruction: str, tell: Callable[[str], None]) -> None:
        """Answers a call for help: the task under way becomes another, and the policy goes on."""
        self.instruct(instruction, "", lambda problem: tell(problem) if problem else go_on())

        def go_on() -> None:
            self.pause(False, tell)

    def judge(self, success: bool) -> str:
        """The operator's verdict ends the episode. Returns why that is not possible."""
        owner = self.driver.owner
        if owner is None or not owner.episode_id:
            return "no episode is under way"
        outcome = Outcome(
            outcome=Outcome.SUCCESS if success else Outcome.FAILURE,
            outcome_source=Outcome.SOURCE_OPERATOR,
            message="so says the operator",
        )
        status = TaskStatus(episode_id=owner.episode_id, task=owner.task, outcome=outcome)
        status.header.stamp = owner.header.stamp
        self._verdict_pub.publish(status)
        return ""

    def note(self, text: str) -> None:
        """Writes a line into the record of the episode."""
        owner = self.driver.owner
        event = EpisodeEvent(event=EpisodeEvent.NOTE, text=f"operator: {text}")
        if owner is not None:
            event.header.stamp = owner.header.stamp
            event.task, event.instruction = owner.task, owner.instruction
            event.episode_id = owner.episode_id
        self._event_pub.publish(event)

    def _call(self, client: Any, request: Any, tell: Callable[[str], None]) -> None:
        if not client.service_is_ready():
            tell(f"{client.srv_name} is not there")
            return

        def on_answer(future: Any) -> None:
            answer = future.result()
            tell("" if answer.success else answer.message or "refused")

        client.call_async(request).add_done_callback(on_answer)

    def health(self) -> tuple[bytes, str, Mapping[str, Any]]:
        """For /diagnostics."""
        level, message, values = self.driver.health()
        return level, message, {**values, "pages": self.watchers, "cameras": len(self._cameras)}


def _moved(start: FloatArray, now: FloatArray) -> FloatArray:
    """(6,) m and rotation vector, rad, along the axes of the base, from a pose to another."""
    turn = Rotation.from_matrix(now[:3, :3] @ start[:3, :3].T).as_rotvec()
    return np.concatenate([now[:3, 3] - start[:3, 3], turn])


def _jpeg(message: Image | CompressedImage) -> bytes:
    if isinstance(message, CompressedImage) and "jpeg" in message.format:
        return bytes(message.data)
    rgb = images.to_rgb(images.decode_message(message))
    return images.encode_jpeg(rgb, JPEG_QUALITY)


def _number(value: float) -> float | None:
    """A number as JSON has it."""
    return round(float(value), 6) if math.isfinite(value) else None


def _angles(quat_xyzw: list[float]) -> list[float]:
    """Roll, pitch and yaw for people, degrees; NaN where there is no orientation."""
    try:
        return [float(v) for v in Rotation.from_quat(quat_xyzw).as_euler("xyz", degrees=True)]
    except ValueError:
        return [math.nan] * 3


def _arm(state: ControllerState) -> dict[str, Any]:
    pose, twist, wrench = (
        state.pose_tool_in_base,
        state.twist_tool_in_base.linear,
        state.external_wrench,
    )
    turn = pose.orientation
    angles = _angles([turn.x, turn.y, turn.z, turn.w])
    return {
        "phase": PHASES.get(state.phase, "?"),
        "fault": state.fault,
        "position": [_number(v) for v in (pose.position.x, pose.position.y, pose.position.z)],
        "angles": [_number(v) for v in angles],
        "speed": _number(math.hypot(twist.x, twist.y, twist.z)),
        "force": [_number(v) for v in (wrench.force.x, wrench.force.y, wrench.force.z)],
        "torque": [_number(v) for v in (wrench.torque.x, wrench.torque.y, wrench.torque.z)],
        "contact": state.in_contact,
        "compliant": state.compliant,
        "opening": _number(state.gripper_opening_command) if state.gripper_commanded else None,
        "chunk_age": _number(state.chunk_age),
    }


def _failure(status: FailureStatus) -> dict[str, Any]:
    return {
        "verdict": convert.known(Decision, status.verdict, Decision.ABSTAIN).name,
        "score": _number(status.score),
        "threshold": _number(status.threshold),
        "step": status.step,
        "reason": status.reason,
        "calibrated": bool(status.calibration_id),
    }
