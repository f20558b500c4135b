# SPDX-License-Identifier: Apache-2.0
"""Laws of the chunk reference: C2 everywhere, bounded, and where it ends."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from arm import glide, moved, rotation
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_control as vc

MS = 1_000_000
START = np.eye(4)
START[:3, 3] = [0.4, 0.1, 0.3]
START[:3, :3] = rotation([np.pi, 0.0, 0.0])  # a tool pointing down: a rotation of pi
LIMITS = vc.MotionLimits()

Sampler = Callable[[int], vc.ReferenceSample]


def derivatives_error(sample: Sampler, time_ns: int, step_ns: int = 20_000) -> float:
    """Largest difference between reported and finite-difference derivatives at one time."""
    h = step_ns * 1e-9
    before, now, after = (sample(time_ns + k * step_ns) for k in (-1, 0, 1))
    turn = vc.so3_log(after.pose[:3, :3] @ before.pose[:3, :3].T)
    return max(
        np.abs((after.pose[:3, 3] - before.pose[:3, 3]) / (2 * h) - now.linear_velocity).max(),
        np.abs(turn / (2 * h) - now.angular_velocity).max(),
        0.01
        * np.abs(
            (after.linear_velocity - before.linear_velocity) / (2 * h) - now.linear_acceleration
        ).max(),
        0.01
        * np.abs(
            (after.angular_velocity - before.angular_velocity) / (2 * h) - now.angular_acceleration
        ).max(),
    )


def jump(before: vc.ReferenceSample, after: vc.ReferenceSample) -> float:
    """Largest step of pose, velocity or acceleration between two samples."""
    turn = vc.so3_log(before.pose[:3, :3].T @ after.pose[:3, :3])
    return max(
        np.abs(before.pose[:3, 3] - after.pose[:3, 3]).max(),
        np.abs(turn).max(),
        np.abs(before.linear_velocity - after.linear_velocity).max(),
        np.abs(before.angular_velocity - after.angular_velocity).max(),
        np.abs(before.linear_acceleration - after.linear_acceleration).max(),
        np.abs(before.angular_acceleration - after.angular_acceleration).max(),
    )


# One microsecond on either side: a jerk of 2000 m/s^3 changes the acceleration by 0.004 m/s^2.
SIDE_NS = 1_000
CONTINUOUS = 0.02


def jump_at(sample: Sampler, time_ns: int) -> float:
    return jump(sample(time_ns - SIDE_NS), sample(time_ns + SIDE_NS))


def follow_c2(
    reference: vc.ChunkReference, poses: np.ndarray, start_ns: int, now_ns: int, dt: float = 0.05
) -> None:
    """Follows a chunk, checking that nothing jumps at the hand-over."""
    before = reference.sample(now_ns)
    reference.follow(poses, start_ns, dt, now_ns)
    assert jump(before, reference.sample(now_ns)) < 1e-9
    assert jump(before, reference.sample(now_ns + SIDE_NS)) < CONTINUOUS


def check_c2(reference: vc.ChunkReference, begin_ns: int, end_ns: int) -> None:
    """Checks derivatives and continuity at a dense grid, offset from any knot."""
    for time_ns in range(begin_ns + 137_911, end_ns, 3_711_317):
        assert derivatives_error(reference.sample, time_ns) < 2e-4
    for time_ns in range(begin_ns, end_ns, 1_000_000):
        assert jump_at(reference.sample, time_ns) < CONTINUOUS


def test_the_continuity_check_finds_a_step_of_acceleration() -> None:
    def ramp(time_ns: int) -> vc.ReferenceSample:
        t = time_ns * 1e-9
        sample = SimpleNamespace(pose=START.copy())
        sample.pose[0, 3] = 0.5 * t * abs(t)  # acceleration -1, then +1
        sample.linear_velocity = np.array([abs(t), 0, 0])
        sample.linear_acceleration = np.array([np.sign(t), 0, 0])
        sample.angular_velocity = sample.angular_acceleration = np.zeros(3)
        return sample  # type: ignore[return-value]

    assert jump_at(ramp, 0) > 50 * CONTINUOUS
    assert jump_at(ramp, 5_000_000) < CONTINUOUS


@pytest.mark.parametrize("turn", [[0, 0, 0.0], [0, 0, 1.2], [0.9, -0.5, 0.7]])
def test_c2_within_a_chunk_and_through_the_run_out(turn: list[float]) -> None:
    reference = vc.ChunkReference(START, 0)
    poses = glide(START, [0.1, 0.05, -0.08], turn, ramp=False)
    follow_c2(reference, poses, 0, 1 * MS)
    check_c2(reference, 2 * MS, 1500 * MS)
    for knot in range(1, 16):
        assert jump_at(reference.sample, knot * 50 * MS) < CONTINUOUS


def test_passes_through_the_waypoints_and_ends_at_rest_in_the_last() -> None:
    reference = vc.ChunkReference(START, 0)
    # Below the limits by as much as the blend from rest needs to have caught up by step 5.
    poses = glide(START, [0.1, 0.05, -0.08], [0.45, -0.25, 0.35])
    assert reference.follow(poses, 0, 0.05, 0)
    for i in range(5, 14):
        sample = reference.sample(i * 50 * MS)
        np.testing.assert_allclose(sample.pose, poses[i], atol=1e-9)
    end = reference.sample(2_000 * MS)
    np.testing.assert_allclose(end.pose, poses[-1], atol=1e-9)
    assert np.abs(end.linear_velocity).max() == 0.0
    assert reference.at_rest(2_000 * MS)
    assert not reference.at_rest(300 * MS)


def test_the_run_out_never_leaves_the_path_beyond_the_last_waypoint() -> None:
    reference = vc.ChunkReference(START, 0)
    poses = glide(START, [0.3, 0.0, 0.0], ramp=False)  # 0.4 m/s up to the last waypoint
    reference.follow(poses, 0, 0.05, 0)
    # From the end of the cross-fade on, which has to catch up from rest.
    xs = [reference.sample(t * MS).pose[0, 3] for t in range(400, 1500)]
    assert max(xs) <= poses[-1, 0, 3] + 1e-9
    assert max(np.diff(xs)) * 1e3 < 0.41


def test_braking_stays_within_the_acceleration_limits() -> None:
    # When the blend from rest has caught up. A run-out leaves a third for blends.
    for brake_at, share in ((550, 1.0), (None, 0.65)):
        reference = vc.ChunkReference(START, 0)
        poses = glide(START, [0.4, 0.0, 0.0], [0, 0, 1.0], ramp=False)
        reference.follow(poses, 0, 0.05, 0)
        first = 550 if brake_at is None else brake_at
        if brake_at is not None:
            reference.brake(brake_at * MS)
        samples = [reference.sample(t * MS) for t in range(first, 1500)]
        linear = max(np.linalg.norm(s.linear_acceleration) for s in samples)
        angular = max(np.linalg.norm(s.angular_acceleration) for s in samples)
        assert 0.9 * share * LIMITS.linear_acceleration < linear or (
            0.9 * share * LIMITS.angular_acceleration < angular
        )
        assert linear <= 1.001 * share * LIMITS.linear_acceleration
        assert angular <= 1.001 * share * LIMITS.angular_acceleration
        assert np.abs(samples[-1].linear_velocity).max() < 1e-12


def test_c2_across_overlapping_late_and_disagreeing_chunks() -> None:
    reference = vc.ChunkReference(START, 0)
    first = glide(START, [0.2, 0.0, 0.0], [0.3, 0.2, 0.4], ramp=False)
    follow_c2(reference, first, 0, 0)
    check_c2(reference, 1 * MS, 430 * MS)
    # Overlaps by half, was observed 100 ms ago, and disagrees by 2 cm and 0.1 rad.
    second = np.array(
        [
            moved(p, [0, 0.02, 0], [0.1, 0, 0])
            for p in glide(first[8], [0.2, 0.0, 0.1], [0.2, 0.1, -0.3])
        ]
    )
    follow_c2(reference, second, 330 * MS, 431 * MS)
    check_c2(reference, 432 * MS, 1000 * MS)
    # Comes only in the run-out of the second one.
    third = glide(second[-1], [0.0, 0.1, 0.0])
    follow_c2(reference, third, 1080 * MS, 1090 * MS)
    check_c2(reference, 1091 * MS, 2500 * MS)
    np.testing.assert_allclose(reference.sample(2500 * MS).pose, third[-1], atol=1e-9)


def test_c2_when_chunks_come_in_the_middle_of_cross_fades() -> None:
    reference = vc.ChunkReference(START, 0)
    now = 0
    target = START
    for k in range(1, 8):
        offset = [0.01 * k, 0.012 * (-1) ** k, 0.0]
        poses = np.array(
            [
                moved(p, offset, [0.05 * (-1) ** k, 0, 0])
                for p in glide(START, [0.1, 0, 0.05], [0.2, 0.2, 0.2])
            ]
        )
        follow_c2(reference, poses, now - 30 * MS, now)
        check_c2(reference, now + MS, now + 40 * MS)
        now += 41 * MS
        target = poses[-1]
    check_c2(reference, now, now + 1500 * MS)
    np.testing.assert_allclose(reference.sample(now + 1500 * MS).pose, target, atol=1e-9)


def test_agreeing_chunks_at_a_high_rate_do_not_slow_the_reference_down() -> None:
    reference = vc.ChunkReference(START, 0)
    speed = 0.2
    line = lambda t: moved(START, [speed * t, 0, 0])  # noqa: E731
    reference.follow(np.array([line(0.05 * i) for i in range(16)]), 0, 0.05, 0)
    for k in range(1, 30):  # a new chunk every 50 ms, always within the cross-fade of the last
        now = k * 50 * MS
        chunk = np.array([line(0.05 * (k + i)) for i in range(16)])
        reference.follow(chunk, now, 0.05, now)
        if k > 22:  # the lag of the start from rest has gone
            velocities = [
                reference.sample(now + j * MS).linear_velocity[0] for j in range(0, 50, 5)
            ]
            np.testing.assert_allclose(velocities, speed, atol=2e-3)


def test_a_chunk_of_the_future_begins_at_its_first_waypoint() -> None:
    reference = vc.ChunkReference(START, 0)
    poses = glide(START, [0.1, 0, 0], ramp=False)
    follow_c2(reference, poses, 100 * MS, 10 * MS)
    np.testing.assert_array_equal(reference.sample(99 * MS).pose, START)
    check_c2(reference, 11 * MS, 400 * MS)


def test_a_single_waypoint_is_a_move_to_it() -> None:
    reference = vc.ChunkReference(START, 0)
    goal = moved(START, [0.02, 0, 0], [0, 0.1, 0])
    follow_c2(reference, goal[None], -20 * MS, 0)
    check_c2(reference, MS, 400 * MS)
    np.testing.assert_allclose(reference.sample(400 * MS).pose, goal, atol=1e-12)
    assert reference.at_rest(400 * MS)


def test_c2_into_a_brake_from_any_state() -> None:
    for brake_at in (20, 80, 140, 390, 700, 770):  # in cross-fade, in flight, in the run-out
        reference = vc.ChunkReference(START, 0)
        reference.follow(glide(START, [0.25, 0.1, 0.0], [0.5, 0.4, 0.3], ramp=False), 0, 0.05, 0)
        before = reference.sample(brake_at * MS)
        reference.brake(brake_at * MS)
        assert jump(before, reference.sample(brake_at * MS)) < 1e-9
        assert jump(before, reference.sample(brake_at * MS + SIDE_NS)) < CONTINUOUS
        check_c2(reference, (brake_at + 1) * MS, (brake_at + 400) * MS)
        assert reference.at_rest((brake_at + 600) * MS)


def test_orientation_sweeps_through_pi_without_a_detour() -> None:
    # A rotation about x from 0.9 pi to 1.1 pi: its rotation vector flips sign at pi.
    poses = np.repeat(np.eye(4)[None], 16, axis=0)
    for pose, angle in zip(poses, np.linspace(0.9 * np.pi, 1.1 * np.pi, 16), strict=True):
        pose[:3, :3] = rotation([angle, 0, 0])
    reference = vc.ChunkReference(poses[0], 0)
    reference.follow(poses, 0, 0.05, 0)
    check_c2(reference, MS, 1000 * MS)
    for t in range(0, 1000, 7):
        sample = reference.sample(t * MS)
        assert np.abs(sample.pose[1:3, 0]).max() < 1e-9  # turns about x and nothing else
        assert np.abs(sample.angular_velocity[1:]).max() < 1e-9
        assert 0.0 <= sample.angular_velocity[0] < 1.5
    # The control: the mean of the rotation vectors on either side of pi is far from both.
    first, second = poses[7, :3, :3], poses[8, :3, :3]
    mean = rotation(0.5 * (vc.so3_log(first) + vc.so3_log(second)))
    assert np.linalg.norm(vc.so3_log(first.T @ mean)) > 3.0


def test_a_chunk_may_turn_by_more_than_pi_in_all() -> None:
    poses = np.repeat(np.eye(4)[None], 40, axis=0)
    for pose, angle in zip(poses, np.linspace(0, 4.0, 40), strict=True):
        pose[:3, :3] = rotation([0, 0, angle])
    reference = vc.ChunkReference(poses[0], 0)
    reference.follow(poses, 0, 0.05, 0)
    check_c2(reference, MS, 2300 * MS)
    np.testing.assert_allclose(reference.sample(3000 * MS).pose, poses[-1], atol=1e-9)


def test_the_cross_fade_is_stretched_until_it_stays_within_the_limits() -> None:
    reference = vc.ChunkReference(START, 0)
    goal = moved(START, [0.15, 0, 0])
    reference.follow(goal[None], 0, 0.05, 0)
    samples = [reference.sample(t * MS) for t in range(1000)]
    assert max(np.linalg.norm(s.linear_acceleration) for s in samples) <= 5.0 * 1.001
    assert max(np.linalg.norm(s.linear_velocity) for s in samples) <= 1.0


@settings(max_examples=40, deadline=None)
@given(
    offsets=st.lists(st.tuples(*[st.floats(-0.03, 0.03)] * 6), min_size=2, max_size=20),
    second=st.tuples(*[st.floats(-0.05, 0.05)] * 6),
    hand_over=st.integers(1, 900),
)
def test_c2_for_arbitrary_waypoints(
    offsets: list[tuple[float, ...]], second: tuple[float, ...], hand_over: int
) -> None:
    poses = np.array([moved(START, o[:3], o[3:]) for o in np.array(offsets)])
    reference = vc.ChunkReference(START, 0)
    reference.follow(poses, 0, 0.05, 0)
    before = reference.sample(hand_over * MS)
    other = np.array([moved(p, np.array(second[:3]), np.array(second[3:])) for p in poses])
    reference.follow(other, (hand_over - 20) * MS, 0.05, hand_over * MS)
    assert jump(before, reference.sample(hand_over * MS)) < 1e-8
    for time_ns in range((hand_over + 1) * MS, (hand_over + 1200) * MS, 12_345_679):
        # Random waypoints at 50 ms have a jerk of some thousand m/s^3.
        assert jump_at(reference.sample, time_ns) < 0.2
        assert derivatives_error(reference.sample, time_ns) < 5e-3
