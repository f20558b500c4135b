# SPDX-License-Identifier: Apache-2.0
"""The action spaces of public checkpoints: known motions come out as their sources say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vla_policy import load_action_contract
from vla_policy.actions.contracts import names
from vla_policy.poses import make_pose

DOWN = make_pose(np.array([0.5, 0.0, 0.2]), np.diag([1.0, -1.0, -1.0]))


@pytest.mark.parametrize("name", names())
def test_every_contract_makes_the_round_trip(name: str) -> None:
    contract = load_action_contract(name, max_opening=0.085)
    assert contract.sources
    assert 1.0 <= 1.0 / contract.step_dt <= 50.0
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.4, 0.4, (8, contract.action.dim))
    actions[:, -1] = contract.action.gripper.closed_value
    observed = DOWN if contract.action.quantity == "pose" else rng.normal(size=7)
    commanded, opening = contract.action.decode(observed, actions)
    np.testing.assert_array_equal(opening, 0.0)
    np.testing.assert_allclose(
        contract.action.encode(observed, commanded, opening), actions, atol=1e-9
    )


@pytest.mark.parametrize("name", ["libero", "openvla_libero", "droid_joint_velocity"])
def test_entries_count_as_far_as_their_own_robots_take_them(name: str) -> None:
    spec = load_action_contract(name, max_opening=0.08).action
    observed = DOWN if spec.quantity == "pose" else np.zeros(7)
    actions = np.zeros((4, spec.dim))
    actions[:, 0], actions[:, 2] = 1.0, -1.0
    commanded, _ = spec.decode(observed, actions)
    beyond, _ = spec.decode(observed, np.where(actions, 1.7 * actions, actions))
    np.testing.assert_array_equal(beyond, commanded)
    actions[:, 0] = 0.5
    assert not np.array_equal(spec.decode(observed, actions)[0], commanded)


def test_libero_moves_five_centimetres_in_base_axes_and_closes_at_plus_one() -> None:
    spec = load_action_contract("libero", max_opening=0.08).action
    poses, opening = spec.decode(DOWN, np.array([[0, 0, 1.0, 0, 0, 1.0, -1.0], [0.0] * 6 + [1.0]]))
    np.testing.assert_allclose(poses[:, :3, 3], [[0.5, 0, 0.25]] * 2)
    turn = Rotation.from_rotvec([0, 0, 0.5]).as_matrix()
    np.testing.assert_allclose(poses[1, :3, :3], turn @ DOWN[:3, :3], atol=1e-12)
    np.testing.assert_allclose(opening, [0.08, 0.0])


def test_openvla_turns_the_gripper_s_sign_round() -> None:
    libero = load_action_contract("libero", max_opening=0.08).action
    openvla = load_action_contract("openvla_libero", max_opening=0.08).action
    action = np.array([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.0]])
    closed, openings = openvla.decode(DOWN, action)
    action[:, -1] = 1.0
    np.testing.assert_array_equal(libero.decode(DOWN, action)[0], closed)
    np.testing.assert_array_equal(libero.decode(DOWN, action)[1], openings)


def test_bridge_turns_about_fixed_axes_in_the_order_roll_pitch_yaw() -> None:
    spec = load_action_contract("openvla_bridge", max_opening=0.07).action
    roll, pitch, yaw = 0.3, -0.2, 0.5
    poses, opening = spec.decode(DOWN, np.array([[0.01, 0.02, 0.03, roll, pitch, yaw, 1.0]]))
    turn = (
        Rotation.from_rotvec([0, 0, yaw])
        * Rotation.from_rotvec([0, pitch, 0])
        * Rotation.from_rotvec([roll, 0, 0])
    )
    np.testing.assert_allclose(poses[0, :3, :3], turn.as_matrix() @ DOWN[:3, :3], atol=1e-12)
    np.testing.assert_allclose(poses[0, :3, 3], [0.51, 0.02, 0.23])
    assert opening[0] == 0.07


def test_droid_moves_a_fifth_of_a_radian_per_step() -> None:
    spec = load_action_contract("droid_joint_velocity", max_opening=0.085).action
    joints, opening = spec.decode(np.zeros(7), np.array([[1.0] * 7 + [0.2]] * 2))
    np.testing.assert_allclose(joints, np.outer([0.2, 0.4], np.ones(7)))
    np.testing.assert_allclose(opening, 0.085)


def test_users_files_are_read_and_their_faults_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'robotx'; valid: droid_.*libero.*or a \.yaml file"):
        load_action_contract("robotx", 0.08)
    path = tmp_path / "mine.yaml"
    text = "sources: [me]\nstep_dt: 0.1\naction: {quantity: pose, relative_to: nothing, "
    path.write_text(text + "rotation: euler}\n")
    with pytest.raises(ValueError, match=r"mine\.yaml: euler_convention is None"):
        load_action_contract(path, 0.08)
    path.write_text(text + "rotation: 6d}\n")
    assert load_action_contract(path, 0.08).action.dim == 10
    path.write_text("step_dt: 0.1\n")
    with pytest.raises(ValueError, match="must have exactly the entries action, sources, step_dt"):
        load_action_contract(path, 0.08)
