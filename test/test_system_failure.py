# SPDX-License-Identifier: Apache-2.0
"""The real loop under the eyes of failure_node: simulated arm, supervisor, a scripted policy.

The policy is the test: it traces a circle and plays features that are like those of successes until
they shall be like those of failures.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from closed_loop import (
    SOON,
    Running,
    Watcher,
    assert_within_limits,
    position,
    seconds,
    speed,
)
from std_srvs.srv import Trigger
from websockets.sync.client import ClientConnection, connect

from vla_failure.binding import Binding
from vla_failure.fitting import calibrate, fit
from vla_msgs.action import RunTask
from vla_msgs.msg import (
    ActionChunk,
    ControllerState,
    ControlOwner,
    FailureStatus,
    HelpRequest,
    Outcome,
    PolicyFeatures,
)
from vla_msgs.srv import SetPaused
from vla_nodes import convert
from vla_nodes.convert.failure import to_policy_features
from vla_nodes.node_tools import LATCHED, RELIABLE, in_executor
from vla_nodes.system.description import load_system, prepared
from vla_policy.types import ActionChunk as PolicyChunk
from vla_policy.types import RobotState

sys.path.insert(0, str(Path(__file__).parents[1] / "src/vla_failure/test"))
from made_rollouts import WIDTH, binding, write_rollouts

pytestmark = pytest.mark.timeout(240)

PERIOD, STEP_DT, HORIZON = 0.4, 0.05, 16
RADIUS, TURN = 0.05, 3.5  # m and s: a way back that is long enough between two inferences
CALM, FAILING = 0.0, 4.0  # of the first feature, which tells the two apart


class Source:
    """A policy whose features are the test's. Driven by the controller's states."""

    def __init__(self, watcher: Watcher) -> None:
        self.feature = CALM
        self.silent = False
        self.running: Binding = binding("p")
        self._watcher = watcher
        self._sequence = 0
        self._due = 0.0
        self._centre: np.ndarray | None = None
        self._chunks = watcher.create_publisher(ActionChunk, "policy/action_chunk", RELIABLE)
        self._features = watcher.create_publisher(PolicyFeatures, "policy/features", RELIABLE)
        watcher.create_subscription(ControllerState, "controller/state", self._on_state, RELIABLE)

    def begin(self) -> None:
        """Another circle, as of a policy that works."""
        self.feature, self.silent, self.running = CALM, False, binding("p")
        self._centre = None

    def _on_state(self, state: ControllerState) -> None:
        owner, now = self._watcher.owner, seconds(state)
        if owner is None or owner.state != ControlOwner.STATE_AUTONOMOUS or now < self._due:
            return
        if owner.header.stamp.sec + 1e-9 * owner.header.stamp.nanosec > now:
            return  # of before the grant
        self._due = now + PERIOD
        pose = convert.from_pose(state.pose_tool_in_base)
        if self._centre is None:
            self._centre = pose[:3, 3] - (RADIUS, 0.0, 0.0)
        angle = np.arctan2(*(pose[1::-1, 3] - self._centre[1::-1]))
        angles = angle + 2.0 * np.pi * STEP_DT * np.arange(HORIZON) / TURN
        poses = np.repeat(pose[None], HORIZON, axis=0)
        poses[:, 0, 3] = self._centre[0] + RADIUS * np.cos(angles)
        poses[:, 1, 3] = self._centre[1] + RADIUS * np.sin(angles)
        poses[:, 2, 3] = self._centre[2]
        self._send(convert.from_time(state.header.stamp), poses, owner.instruction_id)

    def _send(self, stamp_ns: int, poses: np.ndarray, instruction_id: int) -> None:
        self._sequence += 1
        features = np.zeros((5, HORIZON, WIDTH), np.float32)
        features[..., 0] = self.feature
        chunk = PolicyChunk(
            stamp_ns,
            STEP_DT,
            poses,
            np.full(HORIZON, 0.08),
            features,
            self._sequence,
            self.running.policy_id,
        )
        sent = convert.to_action_chunk(
            chunk,
            base_frame="panda_link0",
            tool_frame="panda_hand_tcp",
            joint_names=(),
            sequence=self._sequence,
            instruction_id=instruction_id,
        )
        self._chunks.publish(sent)
        if not self.silent:
            self._features.publish(
                to_policy_features(
                    chunk,
                    sent,
                    state=RobotState(stamp_ns, np.zeros(7), np.zeros(7), 0.08, np.eye(4)),
                    running=self.running,
                    encode_latency=0.0,
                    act_latency=0.0,
                )
            )


class Watched(Watcher):
    """Sees the detector too."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.verdicts: list[FailureStatus] = []
        self.helps: list[HelpRequest] = []
        self.source = Source(self)
        self.create_subscription(FailureStatus, "failure/status", self.verdicts.append, RELIABLE)
        self.create_subscription(HelpRequest, "failure/help", self.helps.append, LATCHED)
        # What only failure_node may say: here, to see that the supervisor obeys at once.
        self.stray_verdict = self.create_publisher(FailureStatus, "failure/status", RELIABLE)

    @property
    def verdict(self) -> FailureStatus:
        return self.verdicts[-1]

    def is_in(self, state: int) -> bool:
        return self.owner is not None and self.owner.state == state

    def wait_for_state(self, state: int) -> None:
        self.wait(f"state {state}", lambda: self.is_in(state))

    def answer(self) -> None:
        """The operator lets the policy go on, and says so again where the detector objects."""
        deadline = time.monotonic() + SOON
        while not self.is_in(ControlOwner.STATE_AUTONOMOUS):
            assert time.monotonic() < deadline, self.summary()
            done = self.call(self.pause, SetPaused.Request(paused=False))
            assert done.success, done.message
            self.wait(
                "a reaction",
                lambda: (
                    self.is_in(ControlOwner.STATE_AUTONOMOUS)
                    or self.owner.reason.startswith("cannot go on")
                ),
            )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, domain: int) -> Iterator[Watched]:
    """The running system, with a detector fitted and calibrated on made-up rollouts."""
    import rclpy
    from rclpy.context import Context

    folder = tmp_path_factory.mktemp("watched")
    good = write_rollouts(folder / "good", "p")
    fit([good], folder / "detector", "mahalanobis", {"accumulate": "none"})
    calibrate([good], folder / "detector", 0.05)
    system = prepared(
        load_system(str(Path(__file__).parent / "watched_system")),
        detector=str(folder / "detector"),
    )
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    running = Running(system, folder / "processes.log", domain)
    try:
        watcher = Watched(context)
        watcher.wait_until_ready()
        watcher.system = running
        watcher.folder = folder
        yield watcher
    finally:
        running.close()
        rclpy.shutdown(context=context)
        print(running.log.read_text(encoding="utf-8"))


@pytest.fixture
def loop(watched: Watched) -> Iterator[Watched]:
    """At rest, without a task and with nothing latched, whatever a test did before."""
    watched.wait_until_ready()
    watched.wait_for_state(ControlOwner.STATE_IDLE)
    watched.wait("a verdict", lambda: watched.verdicts and watched.verdict.verdict == 0)
    watched.source.begin()
    for seen in (watched.states, watched.granted, watched.verdicts, watched.helps):
        seen.clear()
    watched.wait("states", lambda: watched.states and watched.verdicts)
    yield watched
    watched.end_task()
    watched.call(watched.reset, Trigger.Request())


def start(loop: Watched) -> Any:
    """Begins a circle, well watched."""
    while True:
        handle = loop.start_task()
        ended = in_executor(loop, handle.get_result_async)
        loop.wait("begun", lambda done=ended: loop.owner.episode_id or done.done())
        if not ended.done():
            break
        # The test hears the detector before the supervisor does.
        assert "detector is silent" in ended.result().result.outcome.message
    loop.wait_until_moving()
    loop.wait("judged", lambda: loop.verdict.step >= 4)
    assert loop.verdict.verdict in (FailureStatus.OK, FailureStatus.WARN), loop.verdict.reason
    return handle


def go_back(loop: Watched) -> tuple[int, int, np.ndarray]:
    """Has the detector alarm; the arm goes back, and the policy goes on.

    Returns:
        Grant of the way back, states seen before the alarm, and where the tool was.
    """
    states = len(loop.states)
    loop.source.feature = FAILING
    loop.wait_for_state(ControlOwner.STATE_RECOVERING)
    grant, alarmed = loop.owner.grant, position(loop.state)
    loop.source.feature = CALM
    loop.wait("goes on", lambda: loop.is_in(ControlOwner.STATE_AUTONOMOUS))
    return grant, states, alarmed


def test_every_inference_is_judged_under_the_calibration(loop: Watched) -> None:
    start(loop)
    found = loop.verdict
    assert found.calibration_id == binding("p").calibration_id
    assert found.detector_id
    assert found.score < found.threshold
    assert found.margin > 1.0
    assert (found.alpha, found.guarantee[:16]) == (0.05, "P(any alarm in a")
    assert 0.0 < found.latency < 1.0
    assert loop.owner is not None
    assert (found.boot_id, found.grant) == (loop.owner.boot_id, loop.owner.grant)
    assert found.episode_id == loop.owner.episode_id
    assert_within_limits(loop.states)


def test_it_goes_back_then_asks_with_pictures_and_goes_on_when_told_to(loop: Watched) -> None:
    start(loop)
    grant, states, alarmed = go_back(loop)
    back = [chunk for chunk in loop.granted if chunk.policy_id == "recovery"]
    assert back
    assert {chunk.grant for chunk in back} == {grant}
    assert not any(len(chunk.gripper_opening) for chunk in back)
    goal = convert.from_pose(back[-1].poses[-1])[:3, 3]
    arrived = min(np.linalg.norm(position(s) - goal) for s in loop.states[states:])
    assert arrived < 0.01
    assert np.linalg.norm(alarmed - goal) > 0.005, "the positive control"
    assert_within_limits(loop.states[states:])
    loop.wait("judged anew", lambda: loop.verdict.verdict == 0 and loop.verdict.step > 0)
    loop.source.feature = FAILING  # its one retry is used up
    loop.wait_for_state(ControlOwner.STATE_ASKING)
    assert "ASK_HELP" in loop.owner.reason
    loop.wait_until_holding()
    asked = loop.wait("pictures", lambda: next((h for h in loop.helps if len(h.pictures) == 2), 0))
    assert asked.reason == loop.owner.reason
    assert asked.instruction == "trace a circle"
    assert (asked.boot_id, asked.grant) == (loop.owner.boot_id, loop.owner.grant)
    assert sorted(asked.cameras) == ["scene", "wrist"]
    for picture in asked.pictures:
        image = cv2.imdecode(np.frombuffer(bytes(picture.data), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (96, 96, 3)
        assert image.std() > 5.0, "something is to be seen"
    loop.source.feature = CALM
    loop.answer()
    loop.wait_until_moving()


def vla(domain: int, *arguments: str) -> str:
    """What a command of `vla` prints; it has to end well."""
    done = subprocess.run(
        [sys.executable, "-m", "vla_nodes.commands.cli", *arguments],
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        capture_output=True,
        text=True,
        timeout=2.0 * SOON,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_operator_watches_and_answers_from_a_terminal(loop: Watched, domain: int) -> None:
    start(loop)
    loop.source.running = binding("q")
    loop.wait_for_state(ControlOwner.STATE_ASKING)
    loop.wait("pictures", lambda: any(len(h.pictures) == 2 for h in loop.helps))
    folder = loop.folder / "pictures"
    seen = vla(domain, "failure", "watch", "--seconds", "5", "--pictures", str(folder))
    assert "ABSTAIN" in seen
    assert "policy_id is q" in seen
    assert binding("p").calibration_id in seen
    assert len(list(folder.glob("*.jpg"))) == 2
    loop.source.running = binding("p")
    assert "the operator lets the policy go on" in vla(domain, "failure", "answer", "go-on")
    loop.wait_for_state(ControlOwner.STATE_AUTONOMOUS)


@pytest.fixture
def page(watched: Watched, domain: int) -> Iterator[tuple[ClientConnection, dict[str, str], str]]:
    """An operator's page of a console beside the system, in the seat; its cookie; the address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vla_nodes.commands.cli", "console", "--port", "0"],
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"(http:)//(\S+)/#(\S+)", process.stdout.readline())
        assert found
        host, origin = found[2], f"{found[1]}//{found[2]}"
        connection = http.client.HTTPConnection(host, timeout=SOON)
        connection.request("POST", "/session", found[3], {"Origin": origin})
        cookie = {"Cookie": connection.getresponse().headers["set-cookie"].split(";")[0]}
        with connect(f"ws://{host}/ws", additional_headers=cookie, origin=origin) as page:  # type: ignore[arg-type]
            page.send('{"kind": "sit"}')
            yield page, cookie, host
    finally:
        process.terminate()
        assert process.wait(SOON) == 0


def hear(page: ClientConnection, what: Callable[[dict[str, Any]], Any]) -> Any:
    """What is true of the robot as the page is told of it, once it is."""
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        told = page.recv(timeout=SOON)
        if isinstance(told, str) and (found := what(json.loads(told).get("robot", {}))):
            return found
    raise AssertionError("the page is not told so")


def test_the_page_shows_what_is_asked_and_its_answer_goes_on_or_changes_the_task(
    loop: Watched, page: tuple[ClientConnection, dict[str, str], str]
) -> None:
    said, cookie, host = page
    handle = start(loop)
    loop.source.running = binding("q")
    asked = hear(said, lambda robot: len(robot.get("help", {}).get("cameras", ())) == 2 and robot)
    assert asked["owner"]["state"] == "ASKING"
    assert "policy_id is q" in asked["help"]["reason"]
    assert asked["help"]["instruction"] == "trace a circle"
    for index in range(2):
        connection = http.client.HTTPConnection(host, timeout=SOON)
        connection.request("GET", f"/help/{index}", headers=cookie)
        jpeg = np.frombuffer(connection.getresponse().read(), np.uint8)
        assert cv2.imdecode(jpeg, cv2.IMREAD_COLOR).shape == (96, 96, 3)
    # Nobody answers: it holds.
    loop.wait_until_holding()
    held = len(loop.states)
    loop.wait("a while", lambda: len(loop.states) > held + 100)
    assert loop.is_in(ControlOwner.STATE_ASKING)
    assert max(speed(state) for state in loop.states[held:]) < 0.005
    loop.source.running = binding("p")
    said.send(json.dumps({"kind": "instead", "instruction": "trace another circle"}))
    changed = hear(
        said, lambda robot: robot.get("owner", {}).get("state") == "AUTONOMOUS" and robot
    )
    assert "help" not in changed
    assert changed["owner"]["instruction"] == "trace another circle"
    assert changed["owner"]["episode"] == asked["owner"]["episode"]
    loop.wait_until_moving()
    loop.source.running = binding("q")
    hear(said, lambda robot: "help" in robot)
    said.send('{"kind": "reset"}')  # gives up
    assert loop.result(handle).outcome.outcome == Outcome.ABORTED
    hear(said, lambda robot: robot.get("owner", {}).get("state") == "IDLE")


def hot_swap(loop: Watched) -> None:
    loop.source.running = binding("q")


def another_delay(loop: Watched) -> None:
    loop.source.running = replace(binding("p"), latency_s=0.3)


def silence(loop: Watched) -> None:
    loop.source.silent = True


def nan(loop: Watched) -> None:
    loop.source.feature = float("nan")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (hot_swap, "policy_id is q"),
        (another_delay, "latency_s is 0.3"),
        (silence, "no inference for 4 s"),
        (nan, "not finite"),
    ],
)
def test_what_cannot_be_judged_holds_the_arm_until_a_reset(
    loop: Watched, spoil: Callable[[Watched], None], reason: str
) -> None:
    handle = start(loop)
    spoil(loop)
    loop.wait_for_state(ControlOwner.STATE_ASKING)
    assert "ABSTAIN" in loop.owner.reason
    assert reason in loop.owner.reason
    loop.wait_until_holding()
    loop.call(loop.reset, Trigger.Request())
    result = loop.result(handle)
    assert result.outcome.outcome == Outcome.ABORTED
    assert result.outcome.outcome_source == Outcome.SOURCE_DETECTOR
    assert reason in result.outcome.message


def test_a_reset_waits_for_the_detectors_answer_and_says_when_none_comes(loop: Watched) -> None:
    for answers in (False, True):
        handle = start(loop)
        hot_swap(loop)
        loop.wait_for_state(ControlOwner.STATE_ASKING)
        detector = loop.system.process("failure").pid
        if not answers:
            os.kill(detector, signal.SIGSTOP)
        try:
            told = loop.call(loop.reset, Trigger.Request())
        finally:
            os.kill(detector, signal.SIGCONT)
        assert told.success
        assert (told.message == "resetting") == answers, told.message
        loop.result(handle)
        loop.source.begin()
        if not answers:
            assert "failure detector" in told.message
            loop.wait("its answer", lambda: loop.verdict.verdict == FailureStatus.OK)
            loop.call(loop.reset, Trigger.Request())  # what it said before it heard of the first
            loop.wait("calm", lambda: loop.verdict.verdict == FailureStatus.OK)
    start(loop)


def test_a_dead_detector_holds_the_arm_and_a_new_one_does_not_guess(loop: Watched) -> None:
    start(loop)
    loop.system.kill("failure")
    loop.wait_for_state(ControlOwner.STATE_ASKING)
    assert loop.owner.reason == "the failure detector is silent"
    loop.wait_until_holding()
    refused = loop.run_task.send_goal_async(RunTask.Goal(instruction="more", time_limit=9.0))
    assert not loop.wait("an answer", lambda: refused.result() if refused.done() else 0).accepted
    loop.verdicts.clear()
    loop.wait(
        "a new one",
        lambda: loop.verdicts and "began before this node" in loop.verdict.reason,
        2.0 * SOON,
    )
    loop.answer()
    loop.wait_until_moving()
    loop.wait("judged", lambda: loop.verdict.verdict == 0 and loop.verdict.step > 1)


def test_stop_stops_the_controller_and_only_a_reset_releases(loop: Watched) -> None:
    handle = start(loop)
    loop.stray_verdict.publish(
        FailureStatus(
            boot_id=loop.owner.boot_id,
            grant=loop.owner.grant,
            verdict=FailureStatus.STOP,
            reason="above the band",
        )
    )
    loop.wait_for_state(ControlOwner.STATE_FAULT)
    loop.wait("stopped", lambda: loop.state.phase == ControllerState.PHASE_FAULT)
    result = loop.result(handle)
    assert result.outcome.outcome_source == Outcome.SOURCE_DETECTOR
    assert "above the band" in result.outcome.message
    loop.call(loop.reset, Trigger.Request())
    loop.wait_for_state(ControlOwner.STATE_IDLE)
    assert_within_limits(loop.states)
