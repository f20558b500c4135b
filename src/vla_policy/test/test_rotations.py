# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vla_policy.actions.rotations import SIZES, encode_rotations, rotation_from_6d


def test_noisy_columns_still_give_a_rotation() -> None:
    rng = np.random.default_rng(3)
    columns = encode_rotations(Rotation.random(100, random_state=rng).as_matrix(), "6d")
    rotation = rotation_from_6d(columns + rng.normal(size=columns.shape) * 0.2)
    unit = np.tile(np.eye(3), (100, 1, 1))
    np.testing.assert_allclose(rotation @ np.swapaxes(rotation, 1, 2), unit, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-9)


@pytest.mark.parametrize("columns", [np.zeros(6), np.array([1.0, 0, 0, 2.0, 0, 0])])
def test_degenerate_columns_are_an_error(columns: np.ndarray) -> None:
    with pytest.raises(ValueError, match="degenerate"):
        rotation_from_6d(columns)


@pytest.mark.parametrize("representation", ["rotation_vector", "quat_xyzw"])
def test_a_motion_through_half_a_turn_does_not_jump(representation: str) -> None:
    # Two and a half turns, with a stop at the identity, where there is no axis.
    angles = np.concatenate([np.linspace(-0.2, 0.0, 5), np.zeros(3), np.linspace(0.0, 16.0, 200)])
    turns = Rotation.from_rotvec(angles[:, None] * [0.0, 0.6, 0.8]).as_matrix()
    smooth = encode_rotations(turns, representation, continuous=True)
    assert smooth.shape == (len(angles), SIZES[representation])
    assert np.abs(np.diff(smooth, axis=0)).max() < 0.2
    # The positive control: without continuity it does jump.
    assert np.abs(np.diff(encode_rotations(turns, representation), axis=0)).max() > 1.0
