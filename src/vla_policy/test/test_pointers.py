# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vla_policy.training.kinematic_demonstrations import collect_kinematic
from vla_policy.training.objective import _patch_loss
from vla_policy.training.pointers import CLASSES, HIDDEN, patch_indices, project
from vla_sim import samples, scene


def test_projection_of_known_points() -> None:
    pose = np.eye(4)
    pose[:3, 3] = [0.0, 0.0, 2.0]
    points = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 3.0]])
    pixels = project(points, pose, 90.0, 96)
    np.testing.assert_allclose(pixels[:3], [[48.0, 48.0], [96.0, 48.0], [48.0, 0.0]], atol=1e-9)
    assert np.isnan(pixels[3]).all()


def test_patches_show_the_colours_they_are_said_to(tmp_path: Path) -> None:
    # Early instants of episodes that begin at home: nothing hides a cube from the scene camera.
    collect_kinematic(
        "place", "panda", range(10), tmp_path, samples_per_episode=1, first_s=0.3, astray=0.0,
        processes=1,
    )  # fmt: skip
    rows = samples.load(tmp_path)
    patches = patch_indices(rows, ("scene", "wrist"), 96, 12)
    images = samples.render_samples(rows, processes=1).astype(np.float64)
    hits = []
    for index, row in enumerate(rows):
        present = [
            color
            for color, place in zip(scene.COLORS, row.color_positions, strict=True)
            if np.isfinite(place).all()
        ]
        assert patches[index, 0, CLASSES.index("bowl")] != HIDDEN
        assert patches[index, 0, CLASSES.index("zone")] == HIDDEN
        first = patches[index, :, CLASSES.index(row.target)]
        np.testing.assert_array_equal(patches[index, :, CLASSES.index("named")], first)
        for camera in range(2):
            for color in set(scene.COLORS) - set(present):
                assert patches[index, camera, CLASSES.index(color)] == HIDDEN
            for color in present:
                patch = patches[index, camera, CLASSES.index(color)]
                if patch == HIDDEN:
                    continue
                line, column = divmod(int(patch), 8)
                part = images[index, camera, 12 * line : 12 * line + 12]
                pixels = part[:, 12 * column : 12 * column + 12].reshape(-1, 3)
                wanted = 255.0 * np.array(scene.COLORS[color])
                hits.append(np.abs(pixels - wanted).max(axis=1).min() < 60.0)
    assert len(hits) > 40
    assert np.mean(hits) > 0.9


def test_cross_entropy_over_patches_ignores_what_is_hidden() -> None:
    logits = torch.zeros(1, 128, 2)
    target = torch.tensor([[[3, HIDDEN], [HIDDEN, HIDDEN]]])
    torch.testing.assert_close(_patch_loss(logits, target), torch.tensor(np.log(64.0)).float())
    logits[0, 3, 0] = 20.0
    assert float(_patch_loss(logits, target)) < 1e-4
    logits[0, 64 + 3, 1] = 20.0
    assert float(_patch_loss(logits, target)) < 1e-4


def test_the_goal_of_a_relation_is_where_the_expert_puts_the_cube(tmp_path: Path) -> None:
    collect_kinematic(
        "relation", "panda", range(500_000, 500_004), tmp_path, suite="core",
        samples_per_episode=16, processes=1,
    )  # fmt: skip
    rows = samples.load(tmp_path)
    for episode in {row.episode for row in rows}:
        last = max((row for row in rows if row.episode == episode), key=lambda row: row.time)
        end = last.chunk_poses[-1, :2, 3]
        assert np.linalg.norm(end - samples.goal_position(last)[:2]) < 0.005
        # The control: the bowl, which is what the words name, is somewhere else.
        assert np.linalg.norm(end - last.reference_position[:2]) > 0.1
