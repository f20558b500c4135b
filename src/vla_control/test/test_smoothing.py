# SPDX-License-Identifier: Apache-2.0
"""Laws of smoothing: bounded, no lag, a clean curve keeps its form, alike everywhere on SO(3)."""

from __future__ import annotations

import numpy as np
import pytest
from arm import Plant, glide, make_config, moved, rotation
from numpy.typing import NDArray

import vla_control as vc

MS = 1_000_000
DT = 0.05
DOWN = np.eye(4)
DOWN[:3, 3] = [0.4, 0.1, 0.3]
DOWN[:3, :3] = rotation([np.pi, 0.0, 0.0])

Floats = NDArray[np.float64]


def figure_8(start_s: float, steps: int = 16) -> Floats:
    """Chunk of a lemniscate of 0.35 m/s peak speed with a turning tool that points down."""
    omega = 0.35 / (0.1 * np.sqrt(2.0))  # rad/s; speed in the crossing: 0.1 sqrt(2) omega
    t = start_s + DT * np.arange(steps)
    return np.array(
        [
            moved(
                DOWN,
                [0.1 * np.sin(omega * s), 0.05 * np.sin(2 * omega * s), 0.0],
                [0.2 * np.sin(omega * s), 0.0, 0.3 * np.sin(omega * s)],
            )
            for s in t
        ]
    )


def with_noise(poses: Floats, rng: np.random.Generator, position: float, angle: float) -> Floats:
    return np.array([moved(p, rng.normal(0, position, 3), rng.normal(0, angle, 3)) for p in poses])


def smoothed(poses: Floats, deviation: float = 0.01, rotation_deviation: float = 0.05) -> Floats:
    return np.array(vc.smooth_waypoints(poses, DT, deviation, rotation_deviation))


def distances(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Distance in m and angle in rad between the poses of two chunks."""
    turns = [vc.so3_log(p[:3, :3].T @ q[:3, :3]) for p, q in zip(a, b, strict=True)]
    return np.linalg.norm(a[:, :3, 3] - b[:, :3, 3], axis=1), np.linalg.norm(turns, axis=1)


def test_off_leaves_every_waypoint_as_it_is() -> None:
    poses = with_noise(figure_8(0.0), np.random.default_rng(1), 2e-3, 0.01)
    np.testing.assert_array_equal(smoothed(poses, 0.0, 0.0), poses)


@pytest.mark.parametrize("start_s", np.arange(0.0, 2.6, 0.23))
def test_a_clean_figure_8_keeps_its_form(start_s: float) -> None:
    poses = figure_8(start_s)
    distance, angle = distances(smoothed(poses), poses)
    assert distance.max() < 0.3e-3
    assert angle.max() < 3e-3


def test_a_clean_move_keeps_its_form() -> None:
    s = np.linspace(0.0, 1.0, 25)  # 426 mm with a minimum-jerk profile of 1.2 s
    s = s**3 * (10 - 15 * s + 6 * s * s)
    poses = np.array([moved(DOWN, [0.426 * x, 0, 0], [0, 0, 0.5 * x]) for x in s])
    distance, angle = distances(smoothed(poses), poses)
    assert distance.max() < 0.3e-3
    assert angle.max() < 3e-3


@pytest.mark.parametrize("noise", [1e-3, 2e-3, 3e-3])
def test_noise_is_taken_out_without_lag(noise: float) -> None:
    rng = np.random.default_rng(7)
    raw_error, error, along = [], [], []
    for k in range(40):
        clean = figure_8(0.1 * k)
        noisy = with_noise(clean, rng, noise, 5 * noise)
        result = smoothed(noisy, 6 * noise, 30 * noise)
        raw_error.append(distances(noisy, clean)[0])
        error.append(distances(result, clean)[0])
        velocity = np.gradient(clean[:, :3, 3], DT, axis=0)
        offset = result[:, :3, 3] - clean[:, :3, 3]
        along.append(np.sum(offset * velocity, axis=1) / np.sum(velocity**2, axis=1))
    assert np.sqrt(np.mean(np.square(error))) < 0.7 * np.sqrt(np.mean(np.square(raw_error)))
    assert abs(np.mean(along)) < 2e-3  # s of delay


def roughness(poses: Floats) -> tuple[float, float]:
    """RMS of acceleration and jerk of the reference that follows the chunk."""
    reference = vc.ChunkReference(poses[0], 0)
    reference.follow(poses, 0, DT, 0)
    samples = [reference.sample(t * MS).linear_acceleration for t in range(250, 650)]
    jerk = np.diff(samples, axis=0) * 1e3
    return float(np.sqrt(np.mean(np.square(samples)))), float(np.sqrt(np.mean(np.square(jerk))))


def test_smoothing_reduces_acceleration_and_jerk_of_the_reference() -> None:
    rng = np.random.default_rng(11)
    ratios = []
    for k in range(12):
        noisy = with_noise(figure_8(0.2 * k), rng, 2e-3, 0.0)
        ratios.append(np.divide(roughness(smoothed(noisy)), roughness(noisy)))
    acceleration, jerk = np.median(ratios, axis=0)
    assert acceleration < 0.4
    assert jerk < 0.2


def after_noisy_chunks(count: int = 40) -> vc.WaypointNoise:
    """What is known of the noise after so many chunks with 2 mm and 10 mrad of it."""
    rng = np.random.default_rng(5)
    noise = vc.WaypointNoise()
    for k in range(count):
        noisy = with_noise(figure_8(0.1 * k), rng, 2e-3, 0.01)
        vc.smooth_waypoints(noisy, DT, 0.01, 0.05, noise)
    return noise


def test_a_chunk_that_seems_clean_is_smoothed_as_those_before_it_were() -> None:
    noise = after_noisy_chunks()
    assert np.sqrt(noise.position) == pytest.approx(2e-3, rel=0.2)
    assert np.sqrt(noise.rotation) == pytest.approx(1e-2, rel=0.2)
    # Most differences do not see this one: by itself it would be left alone.
    bent = figure_8(0.3)
    bent[7] = moved(bent[7], [0.0, 0.0, 3e-3])
    assert distances(smoothed(bent), bent)[0].max() < 0.3e-3
    known = np.array(vc.smooth_waypoints(bent, DT, 0.01, 0.05, noise))
    assert distances(known, bent)[0][7] > 1.5e-3


def test_a_source_that_has_become_clean_is_known_for_it_before_long() -> None:
    noise = after_noisy_chunks()
    for k in range(20):
        out = np.array(vc.smooth_waypoints(figure_8(0.1 * k), DT, 0.01, 0.05, noise))
    distance, angle = distances(out, figure_8(0.1 * k))
    assert distance.max() < 0.3e-3
    assert angle.max() < 3e-3


def test_what_is_known_of_the_noise_belongs_to_its_owner() -> None:
    def lift_of(before: int, grant: int) -> float:
        """How far the reference follows a single waypoint that stands out, m."""
        plant = Plant(config=make_config(chunk__smoothing_deviation=0.01))
        rng = np.random.default_rng(5)
        still = np.repeat(plant.pose[None], 16, axis=0)
        for _ in range(before):
            noisy = with_noise(still, rng, 2e-3, 0.0)
            assert plant.push(noisy, grant=1) is vc.RejectReason.NONE
            plant.run(0.05)
        bent = still.copy()
        bent[8, 2, 3] += 3e-3
        assert plant.push(bent, grant=grant) is vc.RejectReason.NONE
        heights = [s.reference_pose_tool_in_base[2, 3] for s in plant.run(0.8)]
        return float(max(heights[350:]) - still[0, 2, 3])

    assert lift_of(before=0, grant=1) > 2.5e-3
    assert lift_of(before=6, grant=1) < 1.5e-3
    assert lift_of(before=6, grant=2) > 2.5e-3


@pytest.mark.parametrize("bound", [0.2e-3, 1e-3, 3e-3])
def test_no_waypoint_moves_farther_than_allowed(bound: float) -> None:
    rng = np.random.default_rng(3)
    most = np.zeros(2)
    for k in range(30):
        noisy = with_noise(figure_8(0.2 * k), rng, 2e-3, 0.01)
        distance, angle = distances(smoothed(noisy, bound, 5 * bound), noisy)
        most = np.maximum(most, [distance.max(), angle.max()])
        assert distance.max() <= bound * (1 + 1e-9)
        assert angle.max() <= 5 * bound * (1 + 1e-6)
    assert np.all(most > 0.9 * np.array([bound, 5 * bound]))  # the bound was needed


def test_an_outlier_costs_no_more_than_the_bound_and_leaves_the_rest_alone() -> None:
    poses = figure_8(0.3)
    bent = poses.copy()
    bent[7] = moved(bent[7], [0.0, 0.0, 0.03])
    distance, _ = distances(smoothed(bent, 2e-3), bent)
    assert distance.max() <= 2e-3 * (1 + 1e-9)


def test_the_same_on_any_side_of_the_group() -> None:
    """Smoothing commutes with a change of the base frame and of the tool frame."""
    rng = np.random.default_rng(9)
    poses = with_noise(figure_8(0.4), rng, 2e-3, 0.02)
    expected = smoothed(poses)
    for turn in ([np.pi, 0, 0], [0, 0, np.pi], [1.9, -1.8, 1.7], [0.0, 3.0, 0.0]):
        other = np.eye(4)
        other[:3, :3] = rotation(turn)
        np.testing.assert_allclose(
            smoothed(np.array([other @ p for p in poses])), other @ expected, atol=1e-10
        )
        np.testing.assert_allclose(
            smoothed(np.array([p @ other for p in poses])), expected @ other, atol=1e-10
        )


def test_the_controller_smooths_when_asked_to() -> None:
    accelerations = []
    for deviation in (0.0, 0.008):
        config = make_config(chunk__smoothing_deviation=deviation)
        plant = Plant(config=config)
        rng = np.random.default_rng(2)
        poses = with_noise(glide(plant.pose, [0.12, 0.05, -0.08]), rng, 2e-3, 0.0)
        assert plant.push(poses) is vc.RejectReason.NONE
        states = plant.run(0.7)
        rows = np.array([s.reference_acceleration_tool_in_base[:3] for s in states])
        accelerations.append(np.sqrt(np.mean(np.square(rows[250:]))))
    assert accelerations[1] < 0.5 * accelerations[0]


def test_a_smoothed_waypoint_stays_in_the_workspace() -> None:
    plant = Plant()
    floor = float(plant.pose[2, 3])
    config = make_config(workspace_min=[-2.0, -2.0, floor - 1e-9], chunk__smoothing_deviation=0.01)
    plant = Plant(config=config)
    rng = np.random.default_rng(4)
    poses = np.repeat(plant.pose[None], 20, axis=0)
    poses[:, 2, 3] += np.abs(rng.normal(0, 3e-3, 20)) * (np.arange(20) % 2)
    assert plant.push(poses) is vc.RejectReason.NONE
    lowest = min(s.reference_pose_tool_in_base[2, 3] for s in plant.run(1.0))
    assert lowest > floor - 1e-3  # between waypoints the curve may pass by a little
