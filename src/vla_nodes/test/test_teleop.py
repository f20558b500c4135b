# SPDX-License-Identifier: Apache-2.0
"""What an operator's device becomes: clutch and keyboard."""

from __future__ import annotations

import os
import pty

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_nodes.teleop import keys
from vla_nodes.teleop.clutch import Bounds, Clutch, Input, InputError


def pose(position: object, rotation: object = (0.0, 0.0, 0.0)) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = Rotation.from_rotvec(np.array(rotation, dtype=float)).as_matrix()
    out[:3, 3] = position
    return out


DOWN = pose((0.4, 0.1, 0.3), (np.pi, 0.0, 0.0))


def test_a_pose_device_begins_where_the_reference_is_wherever_it_is_itself() -> None:
    clutch = Clutch(Bounds(scale=0.5))
    clutch.engage(DOWN)
    here = pose((7.0, -3.0, 1.0), (0.3, 0.2, -0.1))
    np.testing.assert_allclose(clutch.pose(Input(pose=here)), DOWN, atol=1e-15)
    moved = here.copy()
    moved[:3, 3] += (0.02, 0.0, -0.01)
    target = clutch.pose(Input(pose=moved))
    np.testing.assert_allclose(target[:3, 3] - DOWN[:3, 3], (0.01, 0.0, -0.005), atol=1e-12)
    turned = pose((0, 0, 0), (0.0, 0.0, 0.2)) @ np.block(
        [[moved[:3, :3], np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]]
    )
    turned[:3, 3] = moved[:3, 3]
    target = clutch.pose(Input(pose=turned))
    by = Rotation.from_matrix(target[:3, :3] @ DOWN[:3, :3].T).as_rotvec()
    np.testing.assert_allclose(by, (0.0, 0.0, 0.2), atol=1e-12)


def test_clutched_anew_it_goes_on_from_the_new_reference() -> None:
    clutch = Clutch(Bounds())
    clutch.engage(DOWN)
    clutch.pose(Input(pose=pose((0.0, 0.0, 0.0))))
    elsewhere = pose((0.5, 0.0, 0.4), (np.pi, 0.0, 0.5))
    clutch.engage(elsewhere)
    far = Input(pose=pose((1.0, 1.0, 1.0)))
    np.testing.assert_allclose(clutch.pose(far), elsewhere, atol=1e-15)


@pytest.mark.parametrize(
    "jumped", [pose((0.06, 0.0, 0.0)), pose((1.0, 0.0, 0.0)), pose((0, 0, 0), (0.0, 0.4, 0.0))]
)
def test_a_tracker_that_jumps_is_refused(jumped: np.ndarray) -> None:
    clutch = Clutch(Bounds(jump=0.05, jump_angle=0.3))
    clutch.engage(DOWN)
    clutch.pose(Input(pose=np.eye(4)))
    with pytest.raises(InputError, match="jumped"):
        clutch.pose(Input(pose=jumped))
    for step in range(1, 40):  # the control: as far, but step by step
        clutch.pose(Input(pose=pose((0.04 * step, 0.0, 0.0))))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=6), st.booleans())
def test_a_twist_is_within_the_bounds_and_in_its_direction(said: list[float], tool: bool) -> None:
    bounds = Bounds(speed=0.2, turning=0.5)
    out = Clutch(bounds).twist(Input(twist=np.array(said), in_tool=tool), DOWN[:3, :3])
    assert np.linalg.norm(out[:3]) <= 0.2 * (1.0 + 1e-12)
    assert np.linalg.norm(out[3:]) <= 0.5 * (1.0 + 1e-12)
    asked = DOWN[:3, :3] @ said[:3] if tool else np.array(said[:3])
    assert float(out[:3] @ asked) >= 0.0
    if np.linalg.norm(asked) <= 0.2:
        np.testing.assert_allclose(out[:3], asked, atol=1e-12)


@pytest.mark.parametrize(
    "given_values",
    [
        {},
        {"twist": np.zeros(6), "pose": np.eye(4)},
        {"twist": np.full(6, np.nan)},
        {"twist": np.zeros(5)},
        {"pose": np.full((4, 4), np.inf)},
        {"twist": np.zeros(6), "opening": -0.01},
        {"twist": np.zeros(6), "opening": float("nan")},
    ],
)
def test_nonsense_is_refused(given_values: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Input(**given_values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(vars(Bounds())))
def test_bad_bounds_are_named(name: str) -> None:
    with pytest.raises(InputError, match=name):
        Bounds(**{name: 0.0})


def test_a_key_moves_for_a_moment_and_holds_until_the_terminal_would_repeat_it() -> None:
    keyboard = keys.Keyboard(speed=0.1, turning=0.5, max_opening=0.08)
    assert keyboard.said(0.0) is None
    assert keyboard.press("f", 1.0)
    said = keyboard.said(1.1)
    assert said is not None
    np.testing.assert_allclose(said.twist, (0.0, 0.0, -0.1, 0.0, 0.0, 0.0))
    assert said.opening is None
    held = keyboard.said(1.5)
    assert held is not None
    assert not held.twist.any(), "it holds still"
    assert keyboard.said(1.9) is None
    assert not keyboard.press("z", 2.0)
    assert keyboard.said(2.0) is None
    keyboard.press(keys.CLOSE, 3.0)
    closes = keyboard.said(3.0)
    assert closes is not None
    assert closes.opening == 0.0
    keyboard.press("j", 3.1)
    turns = keyboard.said(3.1)
    assert turns is not None
    assert (turns.opening, turns.twist[5]) == (0.0, 0.5)
    keyboard.let_go()
    assert keyboard.said(3.2) is None


def test_every_key_of_the_legend_does_something() -> None:
    named = {word for line in keys.LEGEND.splitlines() for word in line.split() if len(word) == 1}
    assert set(keys.DIRECTIONS) | {keys.OPEN, keys.CLOSE, keys.QUIT} == named
    axes = list(keys.DIRECTIONS.values())
    assert sorted(axes) == sorted((axis, sign) for axis in range(6) for sign in (-1.0, 1.0))


def test_keys_come_one_by_one_and_the_terminal_is_left_as_it_was() -> None:
    import termios

    ours, terminal = pty.openpty()
    try:
        before = termios.tcgetattr(terminal)
        with keys.single_keys(terminal):
            assert keys.pressed(terminal) == ""
            os.write(ours, b"Wa")
            assert keys.pressed(terminal) == "wa", "without a line's end"
        assert termios.tcgetattr(terminal) == before
    finally:
        os.close(ours)
        os.close(terminal)
