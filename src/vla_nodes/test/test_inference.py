# SPDX-License-Identifier: Apache-2.0
"""The inference thread: when it infers, and when and why it does not."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from vla_data import Observation, ObservationError
from vla_nodes.inference.scripted import CirclePolicy, make_scripted
from vla_nodes.inference.worker import Assignment, Inference, InferenceThread
from vla_policy.schedules import Schedule
from vla_policy.types import ActionChunk, PolicyError

JOINTS = ("a", "b")
PERIOD = 400_000_000  # ns, 8 steps of 50 ms
ACTIVE = Assignment(True, "draw a circle", 1, 0, (1, 1))


def asynchronous() -> Schedule:
    """Sends every chunk as it is."""
    return Schedule(CirclePolicy(JOINTS).spec, 0.0)


class World:
    """A clock and a camera under the test's control."""

    def __init__(self) -> None:
        self.now = 0
        self.stamp: int | None = None
        self.error: Exception | None = None
        self.results: list[Inference] = []
        self.looks = 0

    def observe(self, now_ns: int, instruction: str) -> Observation:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return Observation(
            stamp_ns=now_ns if self.stamp is None else self.stamp,
            images={},
            q=np.zeros(2),
            dq=np.zeros(2),
            gripper_opening=0.04,
            instruction=instruction,
            pose_tool_in_base=np.eye(4),
        )


def wait_for(predicate: Callable[[], bool], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.002)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def thread(world: World) -> Iterator[InferenceThread]:
    made = InferenceThread(
        CirclePolicy(JOINTS),
        asynchronous(),
        world.observe,
        lambda: world.now,
        world.results.append,
    )
    made.start()
    yield made
    made.stop()


def settle(world: World, thread: InferenceThread) -> None:
    """Lets the thread look at least twice more."""
    thread.notify()
    time.sleep(0.1)


def test_one_inference_per_period_of_ros_time(world: World, thread: InferenceThread) -> None:
    thread.assign(ACTIVE)
    wait_for(lambda: len(world.results) == 1)
    settle(world, thread)
    assert len(world.results) == 1, "time stands still"
    world.now = int(0.95 * PERIOD)
    settle(world, thread)
    assert len(world.results) == 1
    world.now = PERIOD
    wait_for(lambda: len(world.results) == 2)
    assert [one.sequence for one in world.results] == [1, 2]
    assert world.results[1].chunk.stamp_ns == PERIOD


@pytest.mark.parametrize(
    "assignment", [Assignment(), Assignment(False, "x", 1, 0, (1, 2)), Assignment(True, " ")]
)
def test_no_inference_without_a_grant_and_an_instruction(
    world: World, thread: InferenceThread, assignment: Assignment
) -> None:
    thread.assign(assignment)
    settle(world, thread)
    assert world.looks == 0


def test_an_observation_from_before_the_grant_is_not_used(
    world: World, thread: InferenceThread
) -> None:
    world.now, world.stamp = 2_000, 1_000
    thread.assign(Assignment(True, "x", 1, 1_500, (1, 2)))
    wait_for(lambda: world.looks > 0)
    settle(world, thread)
    assert not world.results
    world.stamp = 1_600
    wait_for(lambda: len(world.results) == 1)


def test_a_later_heartbeat_of_the_same_grant_does_not_move_its_start(
    world: World, thread: InferenceThread
) -> None:
    thread.assign(Assignment(True, "x", 1, 100, (1, 2)))
    thread.assign(Assignment(True, "x", 1, 900, (1, 2)))
    assert thread.assignment.since_ns == 100


def test_a_new_grant_does_not_wait_for_the_old_period(
    world: World, thread: InferenceThread
) -> None:
    thread.assign(ACTIVE)
    wait_for(lambda: len(world.results) == 1)
    world.now = 1_000
    thread.assign(Assignment(True, "y", 2, 1_000, (1, 2)))
    wait_for(lambda: len(world.results) == 2)
    assert world.results[1].assignment.instruction_id == 2


def test_a_stale_camera_blocks_with_its_name_and_is_counted_once(
    world: World, thread: InferenceThread
) -> None:
    world.error = ObservationError("camera 'wrist'", "is stale: 0.300 s old, tolerance 0.25 s")
    thread.assign(ACTIVE)
    wait_for(lambda: world.looks > 3)
    assert not world.results
    assert thread.statistics.blocked_now.startswith("camera 'wrist': is stale")
    assert thread.statistics.blocked == {"camera 'wrist'": 1}
    world.error = None
    wait_for(lambda: len(world.results) == 1)
    assert thread.statistics.blocked_now == ""


def test_a_policy_that_fails_once_does_not_end_the_thread(
    world: World, thread: InferenceThread
) -> None:
    world.error = RuntimeError("no memory")
    thread.assign(ACTIVE)
    wait_for(lambda: "no memory" in thread.statistics.failure)
    world.error = None
    wait_for(lambda: len(world.results) == 1)


def test_a_slow_policy_holds_up_nobody_else(world: World) -> None:
    class Slow(CirclePolicy):
        def act(self, context: object, state: object, guidance: object = None) -> object:
            entered.set()
            assert release.wait(20.0)
            return super().act(context, state)

    entered, release = threading.Event(), threading.Event()
    slow = InferenceThread(
        Slow(JOINTS), asynchronous(), world.observe, lambda: world.now, world.results.append
    )
    slow.start()
    slow.assign(ACTIVE)
    assert entered.wait(10.0)
    began = time.monotonic()
    for _ in range(1000):
        slow.notify()
        slow.assign(ACTIVE)
    assert time.monotonic() - began < 5.0
    assert not world.results
    since = slow.statistics.waiting_since
    assert since is not None, "a policy that never answers can be seen"
    release.set()
    slow.stop()
    assert len(world.results) == 1
    assert slow.statistics.waiting_since > since


def test_the_circle_is_smooth_and_comes_back() -> None:
    policy = make_scripted("scripted/circle", JOINTS)
    world = World()
    first = policy.act(policy.encode(world.observe(0, "")), world.observe(0, ""))
    steps = np.linalg.norm(np.diff(first.poses_tool_in_base[:, :3, 3], axis=0), axis=1)
    assert steps.max() < 0.01
    assert np.allclose(first.poses_tool_in_base[0], np.eye(4))
    later = policy.act(policy.encode(world.observe(PERIOD, "")), world.observe(PERIOD, ""))
    assert np.allclose(later.poses_tool_in_base[0], first.poses_tool_in_base[8])
    with pytest.raises(ValueError, match="scripted/circle"):
        make_scripted("scripted/square", JOINTS)


def test_an_empty_instruction_is_counted(world: World, thread: InferenceThread) -> None:
    thread.assign(Assignment(True, "  ", 1, 0, (1, 1)))
    wait_for(lambda: thread.statistics.blocked == {"instruction": 1})
    thread.assign(Assignment(True, "draw", 2, 0, (1, 1)))
    wait_for(lambda: len(world.results) == 1)
    assert thread.statistics.blocked_now == ""


@pytest.mark.parametrize("name", ["commanded", "gripper_opening"])
def test_a_chunk_that_is_not_finite_is_not_sent(world: World, name: str) -> None:
    class Broken(CirclePolicy):
        def act(self, context: object, state: object, guidance: object = None) -> ActionChunk:
            chunk = super().act(context, state)
            getattr(chunk, name)[5] = np.nan
            return chunk

    thread = InferenceThread(
        Broken(JOINTS), asynchronous(), world.observe, lambda: world.now, world.results.append
    )
    thread.start()
    thread.assign(ACTIVE)
    wait_for(lambda: bool(thread.statistics.failure))
    settle(world, thread)
    thread.stop()
    assert "not finite from step 5 on" in thread.statistics.failure
    assert thread.statistics.blocked == {"inference: ValueError": 1}
    assert not world.results


@pytest.mark.parametrize(
    ("shape", "message"),
    [((16, 2), ""), ((16, 3), r"references \(16, 3\)"), ((15, 2), r"references \(15, 2\)")],
)
def test_joint_positions_are_sent_if_they_are_of_this_arm(
    world: World, shape: tuple[int, int], message: str
) -> None:
    class InJoints(CirclePolicy):
        def act(self, context: object, state: object, guidance: object = None) -> ActionChunk:
            return replace(super().act(context, state), commanded=np.zeros(shape))

    thread = InferenceThread(
        InJoints(JOINTS), asynchronous(), world.observe, lambda: world.now, world.results.append
    )
    thread.start()
    thread.assign(ACTIVE)
    wait_for(lambda: bool(thread.statistics.failure or world.results))
    thread.stop()
    assert re.search(message, thread.statistics.failure)
    assert [one.chunk.is_joint for one in world.results] == ([] if message else [True])


def test_a_warm_up_that_fails_does_not_end_the_thread(world: World) -> None:
    def no_server() -> None:
        raise PolicyError("no policy server")

    thread = InferenceThread(
        CirclePolicy(JOINTS),
        asynchronous(),
        world.observe,
        lambda: world.now,
        world.results.append,
        no_server,
    )
    thread.start()
    thread.assign(ACTIVE)
    wait_for(lambda: len(world.results) == 1)
    thread.stop()
    assert thread.statistics.failure == "PolicyError: no policy server"
    assert thread.statistics.blocked == {"warm-up: PolicyError": 1}


class Listening(Schedule):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(CirclePolicy(JOINTS).spec, 0.0)
        self.delays: list[float] = []
        self.resets = 0
        self.delay.measured = self.delays.append  # type: ignore[method-assign]

    def reset(self) -> None:
        self.resets += 1


@pytest.fixture
def listening(world: World) -> Iterator[tuple[InferenceThread, Listening]]:
    schedule = Listening()
    made = InferenceThread(
        CirclePolicy(JOINTS), schedule, world.observe, lambda: world.now, world.results.append
    )
    made.start()
    made.assign(ACTIVE)
    wait_for(lambda: len(world.results) == 1)
    yield made, schedule
    made.stop()


def infer_again(world: World) -> None:
    count = len(world.results)
    world.now += PERIOD
    wait_for(lambda: len(world.results) == count + 1)


def test_the_delay_is_the_first_age_at_which_the_controller_follows_a_chunk(
    world: World, listening: tuple[InferenceThread, Listening]
) -> None:
    thread, schedule = listening
    for age in (0.13, 0.15, 0.17):
        thread.consumed(1, age)
    thread.consumed(7, 0.5)  # another's
    infer_again(world)
    assert schedule.delays == [0.13]
    thread.consumed(2, 0.2)
    infer_again(world)
    assert schedule.delays == [0.13, 0.2]
    assert schedule.resets == 1, "at the grant"


def test_what_the_controller_does_not_follow_is_not_gone_on_from(
    world: World, listening: tuple[InferenceThread, Listening]
) -> None:
    thread, schedule = listening
    thread.consumed(1, 0.1)
    infer_again(world)
    thread.consumed(1, 0.5)  # the second was rejected
    infer_again(world)
    assert schedule.resets == 2


def test_a_new_instruction_begins_without_the_chunks_before(
    world: World, listening: tuple[InferenceThread, Listening]
) -> None:
    thread, schedule = listening
    thread.assign(Assignment(True, "draw another", 2, 0, (1, 1)))
    infer_again(world)
    assert schedule.resets == 2


SLOW = replace(ACTIVE, speed=0.5)


def test_a_slow_policy_infers_as_often_per_way(
    world: World, listening: tuple[InferenceThread, Listening]
) -> None:
    thread, schedule = listening
    world.now = 100
    thread.assign(replace(SLOW, speed_since_ns=100))
    thread.assign(replace(SLOW, speed_since_ns=99_000_000))  # a later heartbeat
    thread.consumed(1, 0.2)
    world.now = int(1.5 * PERIOD)
    settle(world, thread)
    assert len(world.results) == 1
    world.now = 2 * PERIOD
    wait_for(lambda: len(world.results) == 2)
    assert world.results[1].chunk.stamp_ns == 2 * PERIOD, "as the observation is stamped"
    assert world.results[1].state.stamp_ns == 2 * PERIOD
    assert schedule.delays == [pytest.approx(0.1)], "of the policy's steps, half as many passed"
    # The policy goes on in its own time: 8 of its steps later, not 16.
    first, second = (one.chunk.commanded[:, 1, 3] for one in world.results)
    np.testing.assert_allclose(second[:8], first[8:], atol=1e-6)


def test_what_a_slow_policy_is_given_is_stamped_in_its_own_time(
    world: World, listening: tuple[InferenceThread, Listening]
) -> None:
    thread, schedule = listening
    seen: list[int] = []
    schedule.act = lambda policy, context, state: (  # type: ignore[method-assign]
        seen.append(state.stamp_ns) or policy.act(context, state)
    )
    schedule.deliver = lambda chunk, now_ns: replace(chunk, stamp_ns=now_ns)  # type: ignore[method-assign]
    thread.assign(replace(SLOW, speed_since_ns=PERIOD))
    world.now = 3 * PERIOD
    wait_for(lambda: len(world.results) == 2)
    assert seen == [2 * PERIOD]
    assert world.results[1].chunk.stamp_ns == 3 * PERIOD, "sent in ROS time"
