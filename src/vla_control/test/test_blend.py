# SPDX-License-Identifier: Apache-2.0
"""Laws of the blend between chunks: within the limits, C2 at the seam, and soon over."""

from __future__ import annotations

import numpy as np
import pytest
from arm import Plant, glide, moved, rotation
from numpy.typing import NDArray

import vla_control as vc

MS = 1_000_000
START = np.eye(4)
START[:3, 3] = [0.4, 0.1, 0.3]
START[:3, :3] = rotation([np.pi, 0.0, 0.0])  # a tool pointing down: a rotation of pi
FORWARD = np.array([1.0, 0.0, 0.0])
LIMITS = vc.MotionLimits()
# What sampling may miss of a peak: the plan is checked at every 10 ms and later more sparsely.
TOLERANCE = 1.02

Floats = NDArray[np.float64]


def as_row(limits: vc.MotionLimits) -> Floats:
    return np.array(
        [
            limits.linear_velocity,
            limits.linear_acceleration,
            limits.angular_velocity,
            limits.angular_acceleration,
        ]
    )


def norms(sample: vc.ReferenceSample) -> Floats:
    """(speed, acceleration, angular speed, angular acceleration) of one sample."""
    return np.array(
        [
            np.linalg.norm(sample.linear_velocity),
            np.linalg.norm(sample.linear_acceleration),
            np.linalg.norm(sample.angular_velocity),
            np.linalg.norm(sample.angular_acceleration),
        ]
    )


def peaks(reference: vc.ChunkReference, begin_ns: int, end_ns: int, step_ns: int = MS) -> Floats:
    return np.max([norms(reference.sample(t)) for t in range(begin_ns, end_ns, step_ns)], axis=0)


def line(speed: float, steps: int = 40, dt: float = 0.05) -> Floats:
    return np.array([moved(START, [speed * dt * i, 0, 0]) for i in range(steps)])


def wave(rng: np.random.Generator, share: float, steps: int = 24, dt: float = 0.05) -> Floats:
    """A random smooth chunk around START that uses at most `share` of the limits."""
    t = dt * np.arange(steps)
    values = np.zeros((6, steps))
    for axis in range(6):
        for _ in range(2):
            frequency = rng.uniform(0.5, 5.0)  # rad/s
            values[axis] += rng.normal() * np.sin(frequency * t + rng.uniform(0, 2 * np.pi))
    velocity = np.gradient(values, dt, axis=1)
    acceleration = np.gradient(velocity, dt, axis=1)
    limits = as_row(LIMITS)
    for rows, speed, most in ((slice(0, 3), *limits[:2]), (slice(3, 6), *limits[2:])):
        used = max(
            np.linalg.norm(velocity[rows], axis=0).max() / speed,
            np.linalg.norm(acceleration[rows], axis=0).max() / most,
        )
        values[rows] *= share / used
    values -= values[:, :1]
    return np.array([moved(START, v[:3], v[3:]) for v in values.T])


def test_from_rest_into_a_moving_chunk_stays_within_the_limits() -> None:
    for speed in (0.2, 0.4, 0.6, 0.8):
        reference = vc.ChunkReference(START, 0)
        assert reference.follow(line(speed), 0, 0.05, 0)
        assert np.all(peaks(reference, 0, 1800 * MS) <= TOLERANCE * as_row(LIMITS))


def test_a_blend_planned_for_other_limits_would_exceed_these() -> None:
    wide = vc.MotionLimits()
    wide.linear_velocity = wide.linear_acceleration = 100.0
    reference = vc.ChunkReference(START, 0, limits=wide)
    assert reference.follow(line(0.8), 0, 0.05, 0)
    speed, acceleration = peaks(reference, 0, 1800 * MS)[:2]
    assert speed > 1.1 * LIMITS.linear_velocity
    assert acceleration > 1.5 * LIMITS.linear_acceleration


def test_a_chunk_that_nothing_can_catch_up_with_is_reported() -> None:
    reference = vc.ChunkReference(START, 0)
    assert not reference.follow(line(LIMITS.linear_velocity), 0, 0.05, 0)
    plant = Plant()
    poses = glide(plant.pose, [0.74, 0.0, 0.0], ramp=False)  # 0.99 m/s from the first step on
    assert plant.push(poses) is vc.RejectReason.TOO_FAST
    assert plant.push(glide(plant.pose, [0.2, 0.0, 0.0], ramp=False)) is vc.RejectReason.NONE


def test_random_chunks_at_random_times_stay_within_the_limits() -> None:
    rng = np.random.default_rng(20240607)
    limits = as_row(LIMITS)
    blended = 0
    for _ in range(60):
        share = rng.uniform(0.05, 0.6)
        reference = vc.ChunkReference(START, 0)
        assert reference.follow(wave(rng, share), 0, 0.05, 0)
        now = 0
        for _ in range(3):  # also in the middle of blends, and when a chunk has run out
            later = now + int(rng.uniform(20, 900)) * MS
            assert np.all(peaks(reference, now, later, 3 * MS) <= TOLERANCE * limits)
            now = later
            offset = rng.uniform(-0.02, 0.02, 3)
            turn = rng.uniform(-0.1, 0.1, 3)
            anchor = reference.sample(now).pose
            chunk = wave(rng, share)
            lead = int(rng.integers(0, 8))
            shift = anchor[:3, 3] - chunk[lead, :3, 3] + offset
            chunk = np.array([moved(p, shift, turn) for p in chunk])
            if not reference.follow(chunk, now - lead * 50 * MS, 0.05, now):
                break
            blended += 1
        else:
            assert np.all(peaks(reference, now, now + 2500 * MS, 3 * MS) <= TOLERANCE * limits)
    assert blended > 150  # of 180: hardly any cannot be blended


@pytest.mark.parametrize("offset", [[0.02, 0.0, 0.0], [0.0, 0.0, -0.02], [0.012, -0.016, 0.0]])
def test_a_seam_of_20_mm_and_10_deg_has_no_step_of_acceleration(offset: list[float]) -> None:
    rng = np.random.default_rng(5)
    for _ in range(10):
        reference = vc.ChunkReference(START, 0)
        first = wave(rng, 0.4)
        reference.follow(first, 0, 0.05, 0)
        turn = np.array([0.0, 0.0, np.deg2rad(10.0)])
        second = np.array([moved(p, np.array(offset), turn) for p in first])
        now = int(rng.uniform(300, 900)) * MS
        before = reference.sample(now)
        assert reference.follow(second, 0, 0.05, now)
        after = reference.sample(now)
        linear = np.abs(after.linear_acceleration - before.linear_acceleration).max()
        angular = np.abs(after.angular_acceleration - before.angular_acceleration).max()
        assert linear <= 1e-6
        assert angular <= 1e-6
        # The disagreement was there.
        assert np.linalg.norm(second[0, :3, 3] - first[0, :3, 3]) == pytest.approx(0.02)


def test_20_mm_are_blended_within_200_ms_and_an_agreeing_chunk_not_at_all() -> None:
    for offset, done in ((0.02, 200), (0.0, 0)):
        reference = vc.ChunkReference(START, 0)
        reference.follow(line(0.3), 0, 0.05, 0)
        new = np.array([moved(p, [0.0, offset, 0.0]) for p in line(0.3)])
        assert reference.follow(new, 0, 0.05, 900 * MS)
        for t in range(900 + done, 1800, 5):
            wanted = moved(START, [0.3 * t * 1e-3, offset, 0.0])
            np.testing.assert_allclose(reference.sample(t * MS).pose, wanted, atol=1e-9)


def test_poses_streamed_one_by_one_are_followed_evenly() -> None:
    reference = vc.ChunkReference(START, 0)
    speed = 0.2
    lags = []
    for now in range(0, 2000 * MS, 10 * MS):
        assert reference.follow(line(speed * now * 1e-9, steps=2, dt=1.0)[1:], now, 0.05, now)
        sample = reference.sample(now)
        lags.append(speed * now * 1e-9 - (sample.pose[0, 3] - START[0, 3]))
        if now > 1000 * MS:
            np.testing.assert_allclose(sample.linear_velocity[0], speed, atol=1e-3)
    assert max(lags) < 0.12 * speed  # 120 ms
    end = 2000 * MS
    assert peaks(reference, end, end + 500 * MS)[1] <= TOLERANCE * LIMITS.linear_acceleration
    assert reference.at_rest(end + 500 * MS)  # the stream has ended


def test_noise_beyond_the_limits_does_not_keep_a_chunk_from_being_followed() -> None:
    rng = np.random.default_rng(17)
    reference = vc.ChunkReference(START, 0)
    speed = 0.2
    misses, rough = [], []
    for k in range(12):
        stamp, now = k * 400 * MS, (k * 400 + 150) * MS
        times = stamp * 1e-9 + 0.05 * np.arange(16)
        noise = 2e-3 * rng.standard_normal((16, 3))
        rough.append(np.linalg.norm(np.diff(noise, 2, axis=0), axis=1).max() / 0.05**2)
        chunk = np.array(
            [moved(START, n + speed * t * FORWARD) for t, n in zip(times, noise, strict=True)]
        )
        assert reference.follow(chunk, stamp, 0.05, now)
        for t in range(now, now + 400 * MS, 5 * MS):
            wanted = START[:3, 3] + [speed * t * 1e-9, 0, 0]
            misses.append(np.linalg.norm(reference.sample(t).pose[:3, 3] - wanted))
    assert np.sqrt(np.mean(np.square(misses[160:]))) < 5e-3  # of noise with 3.5 mm
    assert np.median(rough) > LIMITS.linear_acceleration
