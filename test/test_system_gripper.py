# SPDX-License-Identifier: Apache-2.0
"""gripper_node and real action servers over DDS: every kind of gripper, and every way to fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from control_msgs.action import GripperCommand, ParallelGripperCommand
from franka_msgs.action import Grasp, Homing, Move
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.executors import (
    Executor,
    ExternalShutdownException,
    MultiThreadedExecutor,
    SingleThreadedExecutor,
)
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from vla_msgs.msg import ControllerState
from vla_nodes.gripper_node import GripperNode
from vla_nodes.node_tools import RELIABLE

SOON = 20.0  # s
FINGERS = ["left_finger", "right_finger"]
NAMES = {"franka": "hand", "gripper_command": "hand/cmd", "parallel_gripper_command": "hand/cmd"}


class Hand(Node):
    """A gripper's driver, whose fingers close on something 30 mm wide, and its controller's state.

    Attributes:
        mode: ``"follow"``, ``"reject"``, ``"abort"``, ``"stuck"`` (never ends), ``"deaf"`` (stuck,
            and cancellations are refused) or ``"mute"`` (never answers).
        events: What the servers have seen, in order.
    """

    def __init__(self, context: Context, adapter: str) -> None:
        super().__init__("hand", context=context)
        self.mode = "follow"
        self.speed = 0.4  # m/s
        self.width = 0.08  # m
        self.events: list[tuple[str, Any]] = []
        self.setpoint: tuple[float, float] | None = None
        self.silent = False
        self.executing = 0
        self.phase = ControllerState.PHASE_TRACKING
        self.released = threading.Event()
        self._adapter = adapter
        self._newest: Any = None
        self._group = ReentrantCallbackGroup()
        self._states = self.create_publisher(ControllerState, "controller/state", RELIABLE)
        self._joints = self.create_publisher(JointState, "joint_states", RELIABLE)
        self.create_timer(0.02, self._publish, callback_group=self._group)
        self.create_service(Trigger, "hand/stop", self._on_stop, callback_group=self._group)

    def start_servers(self, driver: Node) -> None:
        """Offers the actions."""
        name = NAMES[self._adapter]
        kinds = {
            "franka": {Move: f"{name}/move", Grasp: f"{name}/grasp", Homing: f"{name}/homing"},
            "gripper_command": {GripperCommand: name},
            "parallel_gripper_command": {ParallelGripperCommand: name},
        }
        self.servers = [
            ActionServer(
                driver,
                kind,
                one,
                execute_callback=lambda handle, kind=kind: self._execute(kind, handle),
                goal_callback=self._on_goal,
                cancel_callback=self._on_cancel,
                callback_group=self._group,
            )
            for kind, one in kinds[self._adapter].items()
        ]

    def seen(self, what: str) -> list[Any]:
        """Everything of one kind that the servers have seen."""
        return [value for kind, value in list(self.events) if kind == what]

    def _publish(self) -> None:
        opening, force = self.setpoint or (0.0, 0.0)
        message = ControllerState(phase=self.phase, gripper_commanded=self.setpoint is not None)
        message.gripper_opening_command, message.gripper_max_force = opening, force
        if not self.silent:
            self._states.publish(message)
        half = 0.5 * self.width
        self._joints.publish(JointState(name=["elbow", *FINGERS], position=[1.0, half, half]))

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.events.append(("stop", None))
        self.mode = "follow"
        response.success = True
        return response

    def _on_goal(self, goal: Any) -> GoalResponse:
        if self.mode == "mute":
            self.released.wait(SOON)
        self.events.append(("goal", goal))
        return GoalResponse.REJECT if self.mode == "reject" else GoalResponse.ACCEPT

    def _on_cancel(self, _: Any) -> CancelResponse:
        self.events.append(("cancel", None))
        return CancelResponse.REJECT if self.mode == "deaf" else CancelResponse.ACCEPT

    def _execute(self, kind: Any, handle: Any) -> Any:
        self.executing += 1
        try:
            return self._follow(kind, handle)
        finally:
            self.executing -= 1

    def _follow(self, kind: Any, handle: Any) -> Any:
        goal, self._newest = handle.request, handle
        aim = self._aim(goal)
        self.events.append(("begin", (type(goal).__module__, aim)))
        blocked = False
        while self.mode in ("stuck", "deaf") or (abs(self.width - aim) > 1e-6 and not blocked):
            if handle.is_cancel_requested:
                handle.canceled()
                return kind.Result()
            if self._newest is not handle or self.mode in ("abort", "gone"):
                break
            if self.mode == "follow":
                step = float(np.clip(aim - self.width, -0.01 * self.speed, 0.01 * self.speed))
                blocked = self.width + step < 0.03 <= self.width
                self.width += 0.0 if blocked else step
            time.sleep(0.01)  # the fingers take their time
        result = kind.Result()
        good = self.mode == "follow" and self._newest is handle
        if self._adapter == "franka":
            result.success, result.error = good, "" if good else "too hot"
        else:
            result.stalled, result.reached_goal = good and blocked, good and not blocked
        self.events.append(("end", good))
        # As the standard controllers do unless told otherwise: a stall aborts.
        stalls = blocked and self._adapter != "franka"
        (handle.succeed if good and not stalls else handle.abort)()
        return result

    def _aim(self, goal: Any) -> float:
        if isinstance(goal, Homing.Goal):
            return 0.08
        if self._adapter == "franka":
            return float(goal.width)
        position = goal.command.position
        return 2.0 * float(position if self._adapter == "gripper_command" else position[0])


class Spun:
    """A node that is spun in a context of its own, as a process has one."""

    def __init__(self, domain: int, make: Callable[[Context], Node], threads: int) -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = make(self._context)
        self._executor: Executor = (
            SingleThreadedExecutor(context=self._context)
            if threads == 1
            else MultiThreadedExecutor(num_threads=threads, context=self._context)
        )
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def close(self, actions: Iterable[Any] = ()) -> None:
        """Ends it, with everything that others see of it: actions do not end with their node."""
        self._executor.shutdown()
        self._thread.join(SOON)
        for one in actions:
            one.destroy()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)


class Rig:
    """The node, a hand and its driver."""

    def __init__(self, domain: int, adapter: str, **parameters: Any) -> None:
        self._domain = domain
        values = {
            "adapter": adapter,
            "action": NAMES[adapter],
            "finger_joint_names": FINGERS,
            "answer_timeout": 0.6,
            "result_timeout": 1.5,
            "retries": 1,
            "min_period": 0.1,
            "state_timeout": 1.0,
            **parameters,
        }
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self._spun = [
            Spun(domain, lambda context: Hand(context, adapter), 2),
            Spun(domain, lambda c: GripperNode(context=c, parameter_overrides=overrides), 1),
        ]
        self.hand, self.node = (one.node for one in self._spun)
        self.start_driver()
        self.wait("discovery", lambda: not self.node._actions.missing())
        self.wait("states", lambda: self.node.core._width_at > 0.0)

    def start_driver(self) -> None:
        """Starts the action servers."""
        self.hand.mode = "follow"
        self._driver = Spun(self._domain, lambda context: Node("driver", context=context), 6)
        self.hand.start_servers(self._driver.node)

    def end_driver(self) -> None:
        """Ends them."""
        self.hand.mode = "gone"
        self.wait("the last goal", lambda: self.hand.executing == 0)
        self._driver.close(self.hand.servers)

    def command(self, opening: float, force: float = 30.0) -> None:
        """What the controller commands from now on."""
        self.hand.setpoint = (opening, force)

    def wait(self, what: str, predicate: Callable[[], Any], timeout: float = SOON) -> Any:
        """Waits until a predicate gives something true, and returns that."""
        deadline = time.monotonic() + timeout
        while not (value := predicate()):
            assert time.monotonic() < deadline, f"{what}: {self.hand.events}, {self.health}"
            time.sleep(0.01)
        return value

    def settle(self, seconds: float = 0.6) -> None:
        """Lets time go by in which something could happen that must not."""
        steps = self.node.get_clock().now().nanoseconds + int(seconds * 1e9)
        self.wait("time", lambda: self.node.get_clock().now().nanoseconds > steps)

    @property
    def health(self) -> str:
        return self.node._health()[1]

    @property
    def goals(self) -> list[Any]:
        return self.hand.seen("goal")

    def close(self) -> None:
        """Ends everything."""
        self.hand.released.set()
        self.end_driver()
        hand, gripper = self._spun
        gripper.close(set(self.node._actions._clients.values()))
        hand.close()


@pytest.fixture
def rig(request: pytest.FixtureRequest, domain: int) -> Iterator[Rig]:
    made = Rig(domain + 6, getattr(request, "param", "franka"))
    yield made
    made.close()


each_kind = pytest.mark.parametrize("rig", sorted(NAMES), indirect=True)
standard = pytest.mark.parametrize(
    "rig", ["gripper_command", "parallel_gripper_command"], indirect=True
)


@each_kind
def test_flicker_makes_one_goal_and_the_fingers_do_as_the_chunks_say(rig: Rig) -> None:
    rig.settle(0.3)
    assert rig.goals == [], "nothing is commanded yet"
    rng = np.random.default_rng(0)
    for _ in range(30):
        rig.command(float(rng.uniform(0.0, 0.003)), 30.0 + float(rng.uniform(-2, 2)))
        rig.settle(0.03)
    assert rig.hand.width == pytest.approx(0.03, abs=0.005)
    assert len(rig.goals) == 1
    rig.wait("no complaint", lambda: rig.health == "waits for a change")
    for _ in range(20):
        rig.command(float(rng.uniform(0.077, 0.08)))
        rig.settle(0.03)
    rig.wait("open", lambda: rig.hand.width == pytest.approx(0.08))
    assert len(rig.goals) == 2


def test_franka_grasps_whatever_is_there_and_moves_to_open(rig: Rig) -> None:
    rig.command(0.0, 25.0)
    rig.wait("grasp", lambda: len(rig.hand.seen("end")) == 1)
    rig.command(0.06)
    rig.wait("move", lambda: len(rig.hand.seen("end")) == 2)
    grasp, move = rig.goals
    assert isinstance(grasp, Grasp.Goal)
    assert (grasp.width, grasp.force, grasp.speed) == (0.0, 25.0, 0.1)
    assert (grasp.epsilon.inner, grasp.epsilon.outer) == (0.08, 0.08)
    assert isinstance(move, Move.Goal)
    assert (move.width, move.speed) == (0.06, 0.1)


def test_franka_sees_a_goal_canceled_before_the_next(rig: Rig) -> None:
    rig.hand.speed = 0.1
    rig.command(0.0)
    rig.wait("closing", lambda: rig.hand.width < 0.06)
    rig.command(0.08)
    rig.wait("opening", lambda: len(rig.hand.seen("begin")) == 2)
    kinds = [kind for kind, _ in rig.hand.events]
    assert kinds == ["goal", "begin", "cancel", "goal", "begin"]


@standard
def test_the_standard_action_is_given_the_newer_goal_at_once(rig: Rig) -> None:
    rig.hand.speed = 0.1
    rig.command(0.0)
    rig.wait("closing", lambda: rig.hand.width < 0.06)
    rig.command(0.08)
    rig.wait("opening", lambda: len(rig.hand.seen("begin")) == 2)
    assert rig.hand.seen("cancel") == []
    rig.hand.speed = 0.4
    rig.wait("open", lambda: rig.hand.width == pytest.approx(0.08))
    rig.settle(0.3)
    assert len(rig.goals) == 2, "the end of the replaced goal is no failure"
    assert rig.health == "waits for a change"


@pytest.mark.parametrize("rig", ["franka", "gripper_command"], indirect=True)
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("reject", "was rejected"),
        ("abort", "failed"),
        ("stuck", "did not end within 1.5 s"),
        ("mute", "was not answered within 0.6 s"),
    ],
)
def test_a_failure_is_told_tried_again_and_given_up(rig: Rig, mode: str, words: str) -> None:
    rig.hand.mode = mode
    rig.command(0.0)
    rig.wait("told", lambda: words in rig.health)
    rig.wait("given up", lambda: rig.node.core.failures == 2)
    rig.settle()
    assert rig.node.core.goals == 2
    rig.hand.mode = "follow"
    rig.hand.released.set()
    rig.settle(0.3)
    assert rig.hand.width > 0.06, "a goal that is answered too late is canceled at once"
    rig.command(0.04)
    rig.wait("closed", lambda: rig.hand.width == pytest.approx(0.04))
    rig.wait("no complaint", lambda: rig.health == "waits for a change")


def test_a_cancellation_that_is_refused_leads_to_the_stop_service(rig: Rig) -> None:
    rig.hand.mode = "deaf"
    rig.command(0.0)
    rig.wait("closing", lambda: rig.hand.seen("begin"))
    rig.command(0.08)
    rig.wait("stop", lambda: rig.hand.seen("stop"))
    assert "did not answer a cancellation" in rig.health


@each_kind
def test_a_server_that_goes_away_is_named_and_taken_up_again(rig: Rig) -> None:
    rig.hand.speed = 0.01
    rig.command(0.0)
    rig.wait("closing", lambda: rig.hand.seen("begin"))
    rig.end_driver()
    rig.wait("named", lambda: "waits for the action hand" in rig.health)
    rig.hand.speed = 0.4
    rig.start_driver()
    rig.wait("closed", lambda: rig.hand.width < 0.035)


@pytest.mark.parametrize("how", ["fault", "released", "silent"])
def test_what_the_controller_does_not_command_is_left_as_it_is(rig: Rig, how: str) -> None:
    rig.hand.width, rig.hand.speed = 0.03, 0.01
    rig.settle(0.1)
    rig.command(0.08)
    rig.wait("opening", lambda: rig.hand.seen("begin"))
    if how == "fault":
        rig.hand.phase = ControllerState.PHASE_FAULT
    elif how == "released":
        rig.hand.setpoint = None
    else:
        rig.hand.silent = True
    rig.wait("stopped", lambda: rig.hand.seen("cancel"))
    rig.settle(0.3)
    width = rig.hand.width
    assert width < 0.079
    rig.settle(0.3)
    assert rig.hand.width == width
    assert len(rig.goals) == 1


def test_homing_runs_only_while_nobody_commands(rig: Rig) -> None:
    client = rig.hand.create_client(Trigger, "gripper/home")

    def ask() -> Trigger.Response:
        assert client.wait_for_service(SOON)
        future = client.call_async(Trigger.Request())
        return rig.wait("answer", lambda: future.result() if future.done() else None)

    answer = ask()
    assert not answer.success
    assert "moves" in answer.message
    rig.hand.phase = ControllerState.PHASE_HOLDING
    rig.wait("heard", lambda: rig.node._phase == ControllerState.PHASE_HOLDING)
    assert ask().success
    rig.wait("homing", lambda: rig.goals and isinstance(rig.goals[-1], Homing.Goal))


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ({"adapter": "vacuum"}, "franka"),
        ({"finger_scale": 0.0}, "finger_scale"),
        ({"opening_hysteresis": -1.0}, "opening_hysteresis"),
    ],
)
def test_a_wrong_parameter_is_named(domain: int, parameter: dict[str, Any], words: str) -> None:
    context = Context()
    rclpy.init(context=context, domain_id=domain + 6)
    try:
        overrides = [Parameter(name, value=value) for name, value in parameter.items()]
        with pytest.raises(ValueError, match=words):
            GripperNode(context=context, parameter_overrides=overrides)
    finally:
        rclpy.shutdown(context=context)
