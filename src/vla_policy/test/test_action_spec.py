# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_policy.action_spec import (
    ACTION_DIM,
    ActionSpec,
    encode_state,
    invert_pose,
    rotation_from_6d,
    rotation_to_6d,
    state_names,
)
from vla_policy.types import RobotState


def random_poses(rng: np.random.Generator, count: int) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.random(count, random_state=rng).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(count, 3))
    return poses


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_decoding_undoes_encoding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    observed, chunk = random_poses(rng, 1)[0], random_poses(rng, 16)
    gripper = rng.uniform(0.0, 0.08, 16)
    poses, opening = ActionSpec().decode(observed, ActionSpec().encode(observed, chunk, gripper))
    np.testing.assert_allclose(poses, chunk, atol=1e-12)
    np.testing.assert_array_equal(opening, gripper)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_actions_do_not_depend_on_the_base_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    moved, observed = random_poses(rng, 2)
    chunk = random_poses(rng, 16)
    gripper = np.zeros(16)
    here = ActionSpec().encode(observed, chunk, gripper)
    there = ActionSpec().encode(moved @ observed, moved @ chunk, gripper)
    np.testing.assert_allclose(here, there, atol=1e-12)


def test_the_observed_pose_is_the_identity_action() -> None:
    pose = random_poses(np.random.default_rng(0), 1)[0]
    action = ActionSpec().encode(pose, pose[None], np.array([0.05]))[0]
    np.testing.assert_allclose(action, [0, 0, 0, 1, 0, 0, 0, 1, 0, 0.05], atol=1e-12)


def test_translation_is_in_the_observed_tool_frame() -> None:
    observed = np.eye(4)
    observed[:3, :3] = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    commanded = observed.copy()
    commanded[:3, 3] = [0.1, 0.0, 0.0]
    action = ActionSpec().encode(observed, commanded[None], np.zeros(1))[0]
    np.testing.assert_allclose(action[:3], [0.0, -0.1, 0.0], atol=1e-12)


def test_noisy_columns_still_give_a_rotation() -> None:
    rng = np.random.default_rng(3)
    columns = rotation_to_6d(Rotation.random(100, random_state=rng).as_matrix())
    rotation = rotation_from_6d(columns + rng.normal(size=columns.shape) * 0.2)
    unit = np.tile(np.eye(3), (100, 1, 1))
    np.testing.assert_allclose(rotation @ np.swapaxes(rotation, 1, 2), unit, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-9)


@pytest.mark.parametrize("columns", [np.zeros(6), np.array([1.0, 0, 0, 2.0, 0, 0])])
def test_degenerate_columns_are_an_error(columns: np.ndarray) -> None:
    with pytest.raises(ValueError, match="degenerate"):
        rotation_from_6d(columns)


def test_inverse_of_a_pose() -> None:
    poses = random_poses(np.random.default_rng(5), 20)
    np.testing.assert_allclose(
        invert_pose(poses) @ poses, np.tile(np.eye(4), (20, 1, 1)), atol=1e-12
    )


def test_state_has_one_value_per_name() -> None:
    names = state_names([f"joint{i}" for i in range(7)])
    state = RobotState(0, np.arange(7.0), np.zeros(7), 0.08, np.eye(4))
    encoded = encode_state(state)
    assert len(names) == len(encoded) == 24
    assert encoded[names.index("q/joint3")] == 3.0
    assert encoded[names.index("gripper_opening")] == 0.08
    assert len(ActionSpec.names) == ACTION_DIM == 10
