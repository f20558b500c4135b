# SPDX-License-Identifier: Apache-2.0
"""Demonstrations come back from disk as they were made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vla_sim import scene, seeds
from vla_sim.demonstrations import (
    CollectSettings,
    DemonstrationError,
    collect,
    displaced,
    load,
    read_manifest,
    render_samples,
)
from vla_sim.samples import Sample
from vla_sim.simulation import Simulation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a small data set of disturbed episodes."""
    path = tmp_path_factory.mktemp("demonstrations")
    collect("pick", "panda", range(4), path, processes=1, shard_size=2)
    return path


@pytest.fixture(scope="module")
def samples(folder: Path) -> list[Sample]:
    """Give its samples."""
    return load(folder)


def test_manifest_accounts_for_every_seed(folder: Path, samples: list[Sample]) -> None:
    manifest = read_manifest(folder)
    assert sorted(manifest["seeds"] + manifest["failed_seeds"]) == [0, 1, 2, 3]
    assert manifest["samples"] == len(samples)
    assert {seeds.purpose_of(seed) for seed in manifest["seeds"]} == {manifest["purpose"]}
    assert {sample.seed for sample in samples} == set(manifest["seeds"])


def test_samples_are_whole(samples: list[Sample]) -> None:
    assert len(samples) >= 30 * len({sample.episode for sample in samples})
    for sample in samples:
        assert sample.chunk_poses.shape == (16, 4, 4)
        assert sample.chunk_gripper.shape == (16,)
        assert sample.q.shape == sample.dq.shape == (7,)
        assert np.all(np.isfinite(sample.chunk_poses))
        assert np.all(np.isfinite(sample.qpos))
        assert set(np.round(sample.chunk_gripper, 4)) <= {0.0, 0.08}
        assert np.all(np.isfinite(sample.target_position))
        there = np.isfinite(sample.color_positions).all(axis=1)
        assert there.sum() >= 3, "at least three cubes are on the table"
        named = list(scene.COLORS).index(sample.target)
        assert np.array_equal(sample.target_position, sample.color_positions[named])
        away = np.linalg.norm(sample.chunk_poses[0, :3, 3] - sample.pose_tool_in_base[:3, 3])
        assert away < 0.08
        assert sample.target in sample.instruction


def test_the_named_cube_is_lifted(samples: list[Sample]) -> None:
    for episode in {sample.episode for sample in samples}:
        last = [sample for sample in samples if sample.episode == episode][-1]
        assert last.target_position[2] > 0.08


def test_stride_thins_every_episode(folder: Path, samples: list[Sample]) -> None:
    thin = load(folder, stride=2)
    assert {sample.step % 2 for sample in thin} == {0}
    assert {sample.episode for sample in thin} == {sample.episode for sample in samples}


def test_a_seed_gives_one_episode(folder: Path, tmp_path: Path) -> None:
    collect("pick", "panda", [2, 3], tmp_path, processes=1, shard_size=2)
    again = load(tmp_path)
    before = [sample for sample in load(folder) if sample.seed in (2, 3)]
    assert len(again) == len(before)
    for one, other in zip(before, again, strict=True):
        assert np.array_equal(one.qpos, other.qpos)
        assert np.array_equal(one.chunk_poses, other.chunk_poses)


def test_images_are_those_of_the_simulation(samples: list[Sample]) -> None:
    picked = [samples[0], samples[12]]
    images = render_samples(picked, processes=1)
    assert images.shape == (2, 2, 96, 96, 3)
    assert images.dtype == np.uint8
    sim = Simulation("panda", "pick", picked[0].seed)
    for index, camera in enumerate(sim.cameras):
        seen = sim.observe().images[camera].astype(int)
        # The stored state has single precision.
        assert np.mean(np.abs(seen - images[0, index])) < 0.5
    sim.close()
    assert np.mean(np.abs(images[0].astype(int) - images[1])) > 1.0


def test_rendering_in_processes_keeps_the_order(samples: list[Sample]) -> None:
    few = samples[:2] + samples[-2:]
    alone = render_samples(few, processes=1)
    assert np.array_equal(alone, render_samples(few, processes=2))


def test_executed_noise_leaves_the_label_clean(samples: list[Sample]) -> None:
    poses = samples[0].chunk_poses
    altered = displaced(poses, np.array([0.02, -0.01, 0.0]), 0.1)
    np.testing.assert_allclose(altered[0], poses[0], atol=1e-12)
    np.testing.assert_allclose(altered[-1, :2, 3], poses[-1, :2, 3] + [0.02, -0.01], atol=1e-12)
    assert not np.array_equal(altered, poses)


def test_seeds_of_other_purposes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(seeds.SeedError, match="not in the range of demonstrations"):
        collect("pick", "panda", [4_000_000], tmp_path)


def test_no_success_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DemonstrationError, match="no episode"):
        collect(
            "pick",
            "panda",
            [0],
            tmp_path,
            processes=1,
            settings=CollectSettings(time_limit=0.5),
        )


def test_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DemonstrationError, match=r"manifest\.json is missing"):
        load(tmp_path)
    manifest = {**read_manifest(folder), "shards": ["shard_0009.npz"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DemonstrationError, match="shard_0009"):
        load(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 99}), encoding="utf-8")
    with pytest.raises(DemonstrationError, match="format 99"):
        load(tmp_path)
