# SPDX-License-Identifier: Apache-2.0
"""Corrections in words: what is understood, what is not, and that each ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vla_nodes.teleop.clutch import InputError
from vla_nodes.teleop.corrections import LARGEST, SPEED, Correction, Pace, Stop, understand


@pytest.mark.parametrize(
    ("text", "axis", "amount"),
    [
        ("left", 1, 0.03),
        ("A bit to the left.", 1, 0.012),
        ("much further right", 1, -0.06),
        ("higher", 2, 0.03),
        ("go down 25 mm", 2, -0.025),
        ("3.5 cm forward, please", 0, 0.035),
        ("0.1 m back", 0, -0.1),
        ("turn left", 5, math.radians(15.0)),
        ("rotate it 30 degrees to the right", 5, -math.radians(30.0)),
        ("slightly lower", 2, -0.012),
    ],
)
def test_a_direction_is_a_motion_of_a_bounded_length(text: str, axis: int, amount: float) -> None:
    found = understand(text)
    assert isinstance(found, Correction)
    assert (found.axis, found.opening) == (axis, None)
    assert found.amount == pytest.approx(amount)
    twist = found.said(0.08).twist
    assert twist is not None
    assert np.sign(twist[axis]) == np.sign(amount)
    assert np.abs(twist[:3]).max() <= SPEED
    assert np.count_nonzero(twist) == 1


@pytest.mark.parametrize(("text", "share"), [("open", 1.0), ("Close the gripper!", 0.0)])
def test_the_gripper(text: str, share: float) -> None:
    found = understand(text)
    assert isinstance(found, Correction)
    assert found.axis is None
    assert found.said(0.08).opening == pytest.approx(0.08 * share)
    assert np.count_nonzero(found.said(0.08).twist) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "well done",
        "left and up",
        "open it higher",
        "left or right",
        "1 m up",
        "11 cm left",
        "0 cm left",
        "turn up",
        "turn left 90 degrees",
        "turn left 3 cm",
        "left 10 degrees",
        "upside",
        "slower and faster",
        "slower to the left",
        "full speed ahead",
    ],
)
def test_what_is_not_understood_does_nothing(text: str) -> None:
    with pytest.raises(InputError, match=repr(text)):
        understand(text)


def test_it_ends_where_it_is_there_and_in_time_wherever_it_is() -> None:
    found = understand("4 cm down")
    assert isinstance(found, Correction)
    assert not found.done(np.array([0.0, 0.0, -0.039, 0.0, 0.0, 0.0]))
    assert found.done(np.array([0.0, 0.0, -0.041, 0.0, 0.0, 0.0]))
    assert not found.done(np.array([0.0, 0.0, 0.05, 0.0, 0.0, 0.0]))
    longest = Correction(axis=0, amount=LARGEST)
    assert longest.amount / longest.speed < longest.time <= 7.1
    opens = understand("open")
    assert isinstance(opens, Correction)
    assert 0.5 <= opens.time <= 2.0


@pytest.mark.parametrize(
    ("text", "now", "then"),
    [
        ("slower", 1.0, 0.7),
        ("a bit slower, please", 1.0, 0.85),
        ("much slower", 0.4, 0.25),
        ("Slow down!", 0.3, 0.25),
        ("speed up a bit", 0.5, 0.5 / 0.85),
        ("faster", 0.5, 0.5 / 0.7),
        ("Faster!", 0.9, 1.0),
        ("full speed", 0.25, 1.0),
    ],
)
def test_a_pace_is_a_bounded_share_of_the_policys_speed(text: str, now: float, then: float) -> None:
    found = understand(text)
    assert isinstance(found, Pace)
    assert found.of(now) == pytest.approx(then)


@pytest.mark.parametrize("text", ["stop", "Stop, that is the wrong one", "halt left"])
def test_stop_is_a_stop_whatever_else_is_said(text: str) -> None:
    assert understand(text) == Stop()
