# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_policy.actions.gripper import GripperConvention
from vla_policy.actions.spec import ACTION_DIM, NANO_PI0_ACTION, ActionSpec
from vla_policy.poses import invert_pose, make_pose

HORIZON = 16
ROTATIONS: list[dict[str, Any]] = [
    {"rotation": "6d"},
    {"rotation": "rotation_vector", "rotation_scale": 0.5},
    {"rotation": "euler", "euler_convention": "xyz"},
    {"rotation": "euler", "euler_convention": "ZYX", "rotation_scale": 2.0},
    {"rotation": "quat_xyzw"},
]
RELATIONS = [
    {"relative_to": "nothing"},
    *(
        {"relative_to": relation, "frame": frame}
        for relation, frame in itertools.product(("observation", "previous_step"), ("base", "tool"))
    ),
]
FRACTION = GripperConvention("fraction", open_value=-1.0, closed_value=1.0, max_opening=0.08)
POSES = [
    ActionSpec(quantity="pose", translation_scale=0.05, gripper=FRACTION, **rotation, **relation)
    for rotation, relation in itertools.product(ROTATIONS, RELATIONS)
]
JOINTS = [
    ActionSpec(quantity="joint_position", relative_to=relation, joints=7, joint_scale=0.2)
    for relation in ("nothing", "observation", "previous_step")
] + [
    ActionSpec(
        quantity="joint_velocity",
        relative_to="previous_step",
        joints=7,
        joint_scale=3.0,
        step_dt=1.0 / 15.0,
    )
]


def random_poses(rng: np.random.Generator, *shape: int) -> np.ndarray:
    count = int(np.prod(shape))
    rotation = Rotation.random(count, random_state=rng).as_matrix()
    return make_pose(rng.normal(size=(count, 3)), rotation).reshape(*shape, 4, 4)


def turning_poses(rng: np.random.Generator, start: float, stop: float) -> np.ndarray:
    """Poses that turn steadily about one axis, from one angle to another."""
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    angles = np.linspace(start, stop, HORIZON)
    rotation = Rotation.from_rotvec(angles[:, None] * axis).as_matrix()
    return make_pose(rng.normal(size=(HORIZON, 3)) * 0.1, rotation)


@pytest.mark.parametrize("spec", POSES, ids=str)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_decoding_undoes_encoding(spec: ActionSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    observed, commanded = random_poses(rng, 2), random_poses(rng, 2, HORIZON)
    opening = rng.uniform(0.0, 0.08, (2, HORIZON))
    actions = spec.encode(observed, commanded, opening)
    assert actions.shape == (2, HORIZON, spec.dim)
    assert spec.dim == len(spec.names)
    poses, gripper = spec.decode(observed, actions)
    np.testing.assert_allclose(poses, commanded, atol=1e-9)
    np.testing.assert_allclose(gripper, opening, atol=1e-12)


@pytest.mark.parametrize("spec", JOINTS, ids=str)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_joints_make_the_round_trip(spec: ActionSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    observed, commanded = rng.normal(size=7), rng.normal(size=(HORIZON, 7))
    opening = rng.uniform(0.0, 0.08, HORIZON)
    actions = spec.encode(observed, commanded, opening)
    joints, gripper = spec.decode(observed, actions)
    np.testing.assert_allclose(joints, commanded, atol=1e-12)
    np.testing.assert_array_equal(gripper, opening)
    np.testing.assert_allclose(spec.encode(observed, joints, gripper), actions, atol=1e-9)


@pytest.mark.parametrize(
    "spec", [spec for spec in POSES if spec.relative_to != "previous_step"], ids=str
)
@pytest.mark.parametrize("reversed_", [False, True])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_encoding_undoes_decoding_through_half_a_turn(
    spec: ActionSpec, reversed_: bool, seed: int
) -> None:
    # Tools point down: their rotations are half turns, where rotation vectors and quaternions
    # have two values.
    rng = np.random.default_rng(seed)
    observed = random_poses(rng)
    if spec.relative_to == "nothing":
        observed = np.eye(4)
    change = turning_poses(rng, np.pi - 0.3, np.pi + 0.3)
    if reversed_:
        change = change[::-1]
    start = NANO_PI0_ACTION if spec.frame == "tool" else replace(NANO_PI0_ACTION, frame="base")
    commanded, opening = start.decode(
        observed, start.encode(np.eye(4), change, rng.uniform(0.0, 0.08, HORIZON))
    )
    actions = spec.encode(observed, commanded, opening)
    again = spec.encode(observed, *spec.decode(observed, actions))
    if spec.rotation != "euler":
        # Euler angles of a half turn may pass near a singularity, where they must jump.
        assert np.abs(np.diff(actions[:, 3:-1], axis=0)).max() * spec.rotation_scale < 0.1
        np.testing.assert_allclose(again, actions, atol=1e-6)
    poses, _ = spec.decode(observed, again)
    np.testing.assert_allclose(poses, commanded, atol=1e-9)


@pytest.mark.parametrize("spec", POSES, ids=str)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_encoding_undoes_decoding_of_small_motions(spec: ActionSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    observed = random_poses(rng)
    if spec.relative_to == "nothing":
        observed = np.eye(4)
    arm = np.concatenate(
        [
            rng.normal(size=(HORIZON, 3)),
            Rotation.from_rotvec(rng.normal(size=(HORIZON, 3)) * 0.1)
            .as_matrix()
            .transpose(0, 2, 1)
            .reshape(HORIZON, 9)[:, :6],
        ],
        axis=1,
    )
    six = replace(spec, rotation="6d", euler_convention=None, rotation_scale=1.0)
    gripper = rng.uniform(-1.0, 1.0, (HORIZON, 1))
    actions = spec.encode(observed, *six.decode(observed, np.concatenate([arm, gripper], axis=1)))
    again = spec.encode(observed, *spec.decode(observed, actions))
    np.testing.assert_allclose(again, actions, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_actions_do_not_depend_on_the_base_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    moved, observed = random_poses(rng, 2)
    chunk = random_poses(rng, HORIZON)
    gripper = np.zeros(HORIZON)
    here = NANO_PI0_ACTION.encode(observed, chunk, gripper)
    there = NANO_PI0_ACTION.encode(moved @ observed, moved @ chunk, gripper)
    np.testing.assert_allclose(here, there, atol=1e-12)


def test_the_nano_policy_acts_in_the_observed_tool_frame() -> None:
    observed = np.eye(4)
    observed[:3, :3] = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    commanded = observed.copy()
    commanded[:3, 3] = [0.1, 0.0, 0.0]
    action = NANO_PI0_ACTION.encode(observed, commanded[None], np.array([0.05]))[0]
    np.testing.assert_allclose(action, [0, -0.1, 0, 1, 0, 0, 0, 1, 0, 0.05], atol=1e-12)
    assert len(NANO_PI0_ACTION.names) == ACTION_DIM == 10


def test_base_axes_and_tool_axes_differ() -> None:
    observed = make_pose(np.array([0.4, 0.0, 0.3]), np.diag([1.0, -1.0, -1.0]))
    turn = [0.0, 0.0, 0.2]
    action = np.array([[0.0, 0.0, 0.1, *turn, 0.0]])
    spec = ActionSpec(
        quantity="pose", relative_to="observation", rotation="rotation_vector", frame="base"
    )
    up, _ = spec.decode(observed, action)
    np.testing.assert_allclose(up[0, :3, 3], [0.4, 0.0, 0.4])
    turned = Rotation.from_rotvec(turn).as_matrix()
    np.testing.assert_allclose(up[0, :3, :3], turned @ observed[:3, :3])
    down, _ = replace(spec, frame="tool").decode(observed, action)
    np.testing.assert_allclose(down[0, :3, 3], [0.4, 0.0, 0.2])
    np.testing.assert_allclose(down[0, :3, :3], observed[:3, :3] @ turned)


def test_steps_add_up_from_the_observed_pose() -> None:
    spec = ActionSpec(
        quantity="pose",
        relative_to="previous_step",
        rotation="euler",
        euler_convention="xyz",
        frame="tool",
    )
    # A quarter turn and a step ahead, four times: around a square.
    action = np.tile([0.1, 0.0, 0.0, 0.0, 0.0, np.pi / 2.0, 0.0], (4, 1))
    poses, _ = spec.decode(np.eye(4), action)
    corners = [[0.1, 0, 0], [0.1, 0.1, 0], [0, 0.1, 0], [0, 0, 0]]
    np.testing.assert_allclose(poses[:, :3, 3], corners, atol=1e-12)
    np.testing.assert_allclose(poses[-1], np.eye(4), atol=1e-12)


def test_a_velocity_is_integrated_from_the_observed_joints() -> None:
    joints, _ = JOINTS[-1].decode(np.full(7, 0.5), np.array([[1.0] * 7 + [0.0]] * 2))
    np.testing.assert_allclose(joints[:, 0], [0.7, 0.9])  # 3 rad/s over 1/15 s, twice


@pytest.mark.parametrize(
    ("gripper", "value", "opening"),
    [
        (GripperConvention(), 0.03, 0.03),
        (FRACTION, -1.0, 0.08),
        (FRACTION, 1.0, 0.0),
        (FRACTION, 0.0, 0.04),
        (FRACTION, -7.0, 0.08),
        (replace(FRACTION, binary=True), -0.1, 0.08),
        (replace(FRACTION, binary=True), 0.1, 0.0),
    ],
)
def test_gripper_values(gripper: GripperConvention, value: float, opening: float) -> None:
    assert gripper.decode(np.array([value]))[0] == pytest.approx(opening)
    encoded = gripper.encode(np.array([opening]))
    assert gripper.decode(encoded)[0] == pytest.approx(opening)


GOOD: dict[str, Any] = {
    "quantity": "pose",
    "relative_to": "observation",
    "rotation": "euler",
    "euler_convention": "xyz",
    "frame": "tool",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantity": "torque"}, "quantity is 'torque'; valid: pose, joint_position"),
        ({"relative_to": "goal"}, "valid: nothing, observation, previous_step"),
        ({"rotation": "euler angles"}, "valid: 6d, rotation_vector, euler, quat_xyzw"),
        ({"euler_convention": None}, "euler_convention is None"),
        ({"euler_convention": "xYz"}, "euler_convention is 'xYz'"),
        ({"euler_convention": "xxz"}, "euler_convention is 'xxz'"),
        ({"rotation": "6d"}, "has no euler_convention"),
        ({"frame": None}, "frame is None; valid: base, tool"),
        ({"relative_to": "nothing"}, "absolute poses are in 'base'"),
        ({"translation_scale": 0.0}, "translation_scale is 0.0"),
        ({"joints": 7}, "joints does not belong"),
        ({"gripper": {"unit": "mm"}}, "valid: m, fraction"),
        ({"gripper": {"unit": "fraction"}}, "max_opening is None"),
        (
            {"gripper": {"unit": "fraction", "max_opening": 0.1, "closed_value": 1.0}},
            "two different numbers",
        ),
        ({"gripper": {"units": "m"}}, "unknown units; valid: unit, open_value"),
        ({"chunk": 3}, "unknown chunk; valid: quantity"),
    ],
)
def test_wrong_specifications_are_named(change: dict[str, Any], message: str) -> None:
    assert ActionSpec.from_dict(GOOD).to_dict()["frame"] == "tool"
    with pytest.raises(ValueError, match=message):
        ActionSpec.from_dict({**GOOD, **change})


def test_joint_specifications_are_checked() -> None:
    good = {"quantity": "joint_velocity", "relative_to": "previous_step", "joints": 7}
    assert ActionSpec.from_dict({**good, "step_dt": 0.1}).dim == 8
    for change, message in (
        ({}, "velocities need a positive one"),
        ({"step_dt": 0.1, "relative_to": "observation"}, "a velocity is relative to"),
        ({"step_dt": 0.1, "joints": None}, "joints is None"),
        ({"step_dt": 0.1, "frame": "base"}, "frame does not belong"),
    ):
        with pytest.raises(ValueError, match=message):
            ActionSpec.from_dict({**good, **change})
    with pytest.raises(ValueError, match="missing"):
        ActionSpec.from_dict({"quantity": "pose"})


@pytest.mark.parametrize("spec", [*POSES[:5], *JOINTS], ids=str)
def test_specifications_make_the_round_trip(spec: ActionSpec) -> None:
    assert ActionSpec.from_dict(spec.to_dict()) == spec


def test_chunks_that_are_not_finite_are_refused_by_name() -> None:
    actions = np.zeros((HORIZON, ACTION_DIM))
    actions[:, [3, 7]] = 1.0
    NANO_PI0_ACTION.decode(np.eye(4), actions)
    actions[5, 2] = np.nan
    with pytest.raises(ValueError, match="z of step 5 of the chunk is nan"):
        NANO_PI0_ACTION.decode(np.eye(4), actions)
    with pytest.raises(ValueError, match="7 entries, not 10"):
        NANO_PI0_ACTION.decode(np.eye(4), actions[:, :7])


def test_a_zero_quaternion_is_an_error() -> None:
    spec = ActionSpec(quantity="pose", relative_to="nothing", rotation="quat_xyzw")
    with pytest.raises(ValueError, match="quaternion is zero"):
        spec.decode(np.eye(4), np.zeros((1, 8)))


def test_inverse_of_a_pose() -> None:
    poses = random_poses(np.random.default_rng(5), 20)
    np.testing.assert_allclose(
        invert_pose(poses) @ poses, np.tile(np.eye(4), (20, 1, 1)), atol=1e-12
    )
