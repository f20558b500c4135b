# SPDX-License-Identifier: Apache-2.0
"""A policy that is slowed down: its time, its chunks, its supervisor and its schedule."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import Pose, Twist, Wrench
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_msgs.msg import ActionChunk
from vla_nodes import convert
from vla_nodes.convert.pace import paced
from vla_nodes.supervision.policy_time import SLOWEST, PolicyTime, valid_speed

SECOND = 1_000_000_000
NOW = 1_790_000_000 * SECOND + 7  # as on a robot: more ns than a float tells apart
STEPS, STEP_DT = 16, 0.05


def chunk(stamp_ns: int, **more: object) -> ActionChunk:
    """A straight line at 0.2 m/s: step i is at 0.01 i m."""
    message = ActionChunk(header=convert.header(stamp_ns, "base"), tool_frame="tool", **more)
    message.step_dt, message.sequence = STEP_DT, 5
    message.poses = [Pose() for _ in range(STEPS)]
    for i, pose in enumerate(message.poses):
        pose.position.x = 0.01 * i
    message.gripper_opening = [0.001 * i for i in range(STEPS)]
    return message


def place(message: ActionChunk, now_ns: int) -> float:
    """Where a chunk of a straight line is at a time, m; it may be at a stand before and after."""
    at = (now_ns - convert.from_time(message.header.stamp)) / SECOND / message.step_dt
    return float(np.interp(at, range(len(message.poses)), [p.position.x for p in message.poses]))


def test_full_speed_is_ros_time_to_the_nanosecond() -> None:
    time = PolicyTime()
    assert time.of(NOW) == time.to_ros(NOW) == NOW
    message = chunk(NOW - SECOND // 5)
    assert paced(message, time, NOW) is message
    time.set_speed(0.5, NOW)
    time.set_speed(1.0, NOW + SECOND)
    later = chunk(NOW + SECOND)
    assert paced(later, time, NOW + 2 * SECOND) is later, "what was slow before leaves no trace"
    assert time.of(NOW + 2 * SECOND) - time.of(NOW + SECOND) == SECOND


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, SECOND), st.floats(SLOWEST, 1.0)), max_size=12),
    st.integers(0, 3 * SECOND),
)
def test_policy_time_grows_steadily_and_goes_both_ways(
    changes: list[tuple[int, float]], ahead: int
) -> None:
    time, now = PolicyTime(), NOW
    for wait, speed in changes:
        before = time.of(now + wait)
        time.set_speed(speed, now := now + wait)
        assert time.of(now) == before, "a change moves nothing"
        assert time.speed == speed
    for ros in (NOW - SECOND, NOW, now, now + ahead):
        assert abs(time.to_ros(time.of(ros)) - ros) <= 4
    assert time.of(now + ahead) - time.of(now) == pytest.approx(time.speed * ahead, abs=2)


def test_a_clock_that_jumps_back_is_followed() -> None:
    time = PolicyTime()
    time.set_speed(0.5, NOW)
    time.set_speed(1.0, NOW - 100 * SECOND)
    assert time.speed == 1.0
    assert time.of(NOW) - time.of(NOW - SECOND) == SECOND


@pytest.mark.parametrize("speed", [0.0, 0.2, 1.01, -1.0, float("nan"), float("inf")])
def test_a_bad_speed_is_refused_and_one_that_is_heard_is_made_valid(speed: float) -> None:
    time = PolicyTime()
    with pytest.raises(ValueError, match=r"valid: 0\.25 to 1"):
        time.set_speed(speed, NOW)
    assert time.speed == 1.0
    time.set_speed(valid_speed(speed), NOW)
    assert SLOWEST <= time.speed <= 1.0
    assert time.speed == SLOWEST or speed > 1.0, "what is no number is slow"


def test_a_chunk_of_a_slow_policy_goes_the_same_way_in_more_time() -> None:
    time = PolicyTime()
    time.set_speed(0.5, NOW - 2 * SECOND)
    message = chunk(NOW - SECOND // 5)
    out = paced(message, time, NOW)
    assert out is not None
    assert out.header == message.header, "the observation's stamp"
    assert (out.step_dt, out.sequence) == (2 * STEP_DT, 5)
    assert out.poses == message.poses
    assert out.gripper_opening == message.gripper_opening
    assert place(out, NOW) == pytest.approx(0.02), "two of its steps have passed, not four"


@settings(max_examples=100, deadline=None)
@given(st.floats(SLOWEST, 1.0), st.floats(SLOWEST, 1.0), st.floats(0.0, 0.7), st.floats(0.0, 0.3))
def test_a_change_of_speed_turns_the_chunk_around_the_time_that_is_now(
    before: float, after: float, age: float, since: float
) -> None:
    time, stamp = PolicyTime(), NOW - round(age * SECOND)
    time.set_speed(before, NOW - 10 * SECOND)
    was = paced(chunk(stamp), time, stamp)
    time.set_speed(after, NOW)
    out = paced(chunk(stamp, conditioned_steps=3), time, NOW)
    assert was is not None
    assert out is not None
    assert place(out, NOW) == pytest.approx(place(was, NOW), abs=1e-6), "nothing jumps"
    later = NOW + round(since * SECOND)
    moved = min(0.2 * after * since, 0.15 - place(out, NOW))
    assert place(out, later) - place(out, NOW) == pytest.approx(moved, abs=1e-6)
    assert len(out.gripper_opening) == len(out.poses)
    left_out = STEPS - len(out.poses)
    assert out.conditioned_steps == max(0, 3 - left_out)
    # The controller refuses what is older than the grant: the stamp moves no more than a step.
    assert (
        convert.from_time(out.header.stamp) >= min(stamp, NOW - round(out.step_dt * SECOND)) - 1
    ), "not into the past"


def test_a_chunk_that_is_over_is_not_sent_again() -> None:
    time = PolicyTime()
    time.set_speed(0.5, NOW)
    assert paced(chunk(NOW - SECOND), time, NOW) is None
    assert paced(chunk(NOW - SECOND // 2), time, NOW) is not None


def test_twists_are_slower_and_all_that_belongs_to_a_step_goes_with_it() -> None:
    time = PolicyTime()
    time.set_speed(0.25, NOW)
    message = chunk(NOW - SECOND // 10)
    message.poses, message.mode = [], ActionChunk.MODE_TWIST
    message.twists = [Twist() for _ in range(STEPS)]
    for i, twist in enumerate(message.twists):
        twist.linear.x, twist.angular.z = 0.01 * i, 0.1 * i
    message.wrenches = [Wrench() for _ in range(STEPS)]
    message.stiffness = [float(i) for i in range(36 * STEPS)]
    out = paced(message, time, NOW)
    assert out is not None
    assert [len(out.twists), len(out.wrenches), len(out.stiffness)] == [14, 14, 36 * 14]
    assert out.twists[0].linear.x == pytest.approx(0.25 * 0.02)
    assert out.twists[0].angular.z == pytest.approx(0.25 * 0.2)
    assert out.stiffness[0] == 72.0
    assert message.twists[2].linear.x == pytest.approx(0.02), "the policy's own is left alone"


def test_joint_rows_stay_rows() -> None:
    time = PolicyTime()
    time.set_speed(0.25, NOW)
    message = chunk(NOW - SECOND // 10)
    message.poses, message.mode = [], ActionChunk.MODE_JOINT_POSITION
    message.joint_names = ["a", "b", "c"]
    message.joint_values = [float(i) for i in range(3 * STEPS)]
    out = paced(message, time, NOW)
    assert out is not None
    assert list(out.joint_values) == list(message.joint_values)[6:]


@pytest.mark.parametrize(
    ("field", "value"),
    [("step_dt", float("nan")), ("step_dt", -1.0), ("stiffness", [1.0] * 36)],
)
def test_what_is_not_well_formed_is_left_for_the_controller_to_refuse(
    field: str, value: object
) -> None:
    time = PolicyTime()
    time.set_speed(0.25, NOW)
    message = chunk(NOW - SECOND // 10)
    setattr(message, field, value)
    out = paced(message, time, NOW)
    assert out is not None
    with pytest.raises(convert.ConversionError):
        convert.from_action_chunk(out, base_frame="base", tool_frame="tool")
