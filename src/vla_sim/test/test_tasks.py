# SPDX-License-Identifier: Apache-2.0
"""What counts as success: every predicate with cases that must and must not pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_sim import robots, tasks
from vla_sim.tasks import Judge, SceneState, TaskError


def state(**changes: object) -> SceneState:
    """Return a scene in which red and blue lie on the table and nothing has happened."""
    plain = SceneState(
        time=1.0,
        positions={"red": np.array([0.5, 0.0, 0.02]), "blue": np.array([0.6, 0.1, 0.02])},
        yaws={"red": 0.0, "blue": 0.0},
        speeds={"red": 0.0, "blue": 0.0},
        finger_contacts={"red": 0, "blue": 0},
        gripper_opening=0.08,
        tool_position=np.array([0.48, 0.0, 0.27]),
        first_touched=None,
        first_lifted=None,
        bowl=(0.4, -0.1),
        zone=(0.62, 0.0),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def at(red: tuple[float, float, float]) -> dict[str, object]:
    return {"positions": {"red": np.array(red), "blue": np.array([0.6, 0.1, 0.02])}}


TOUCHING = {
    "gripper_opening": 0.0,
    "first_touched": "red",
    "finger_contacts": {"red": 2, "blue": 0},
    "tool_position": np.array([0.5, 0.0, 0.049]),
}
HELD_UP = {**at((0.5, 0.0, 0.12)), "finger_contacts": {"red": 2, "blue": 0}}
IN_BOWL = at((0.41, -0.1, 0.026))

CASES = [
    ("touch", TOUCHING, True),
    ("touch", {}, False),
    ("touch", {**TOUCHING, "first_touched": "blue"}, False),
    ("touch", {**TOUCHING, "gripper_opening": 0.05}, False),
    ("touch", {**TOUCHING, "tool_position": np.array([0.46, 0.0, 0.02])}, False),
    ("push", at((0.60, 0.03, 0.02)), True),
    ("push", {}, False),
    ("push", at((0.62, 0.061, 0.02)), False),
    ("push", {**at((0.5, 0.0, 0.02)), "zone": None}, False),
    ("pick", HELD_UP, True),
    ("pick", {}, False),
    ("pick", {**HELD_UP, "finger_contacts": {"red": 1, "blue": 0}}, False),
    ("pick", {**HELD_UP, **at((0.5, 0.0, 0.09))}, False),
    ("place", IN_BOWL, True),
    ("place", {}, False),
    ("place", {**IN_BOWL, "gripper_opening": 0.04}, False),
    ("place", {**IN_BOWL, "finger_contacts": {"red": 1, "blue": 0}}, False),
    ("place", {**IN_BOWL, "speeds": {"red": 0.2, "blue": 0.0}}, False),
    ("place", at((0.41, -0.1, 0.09)), False),
    ("place", at((0.47, -0.1, 0.03)), False),
]


# Of tasks that name more than a cube: target, reference, what differs, what is expected.
ON_BLUE = at((0.605, 0.1, 0.06))
LEFT = at((0.42, 0.02, 0.02))
OPEN_DRAWER = {"travels": {"drawer": 0.07}}
PRESSED = {"travels": {"red button": 0.008}, "first_touched": "red button"}


def one(name: str, place: tuple[float, float, float]) -> dict[str, object]:
    return {"positions": {name: np.array(place)}}


STANDING = {"places": {"socket": (0.5, 0.0)}, "tilts": {"peg": 0.02}}
LEANING = {"tilts": {"peg": 0.3}}
POURING = {
    **one("cup", (0.45, -0.1, 0.12)),
    "finger_contacts": {"cup": 2},
    "tilts": {"cup": 0.8},
    "axes": {"cup": np.array([-np.sin(0.8), 0.0, np.cos(0.8)])},
}
FOLLOWING = {
    **one("puck", (0.5, 0.0, 0.046)),
    "gripper_opening": 0.0,
    "tool_position": np.array([0.505, 0.0, 0.0555]),
}
NAMED_CASES = [
    ("stack", "red", "blue", ON_BLUE, True),
    ("stack", "red", "blue", {}, False),
    ("stack", "blue", "red", ON_BLUE, False),
    ("stack", "red", "blue", {**ON_BLUE, "finger_contacts": {"red": 2, "blue": 0}}, False),
    ("stack", "red", "blue", at((0.605, 0.1, 0.075)), False),
    ("stack", "red", "blue", at((0.63, 0.1, 0.06)), False),
    ("stack", "red", "green", ON_BLUE, False),
    ("relation", "red", "to the left of", LEFT, True),
    ("relation", "red", "to the right of", LEFT, False),
    ("relation", "red", "to the left of", {**LEFT, "gripper_opening": 0.04}, False),
    ("relation", "red", "to the right of", at((0.4, -0.23, 0.02)), True),
    ("relation", "red", "behind", at((0.53, -0.1, 0.02)), True),
    ("relation", "red", "in front of", at((0.27, -0.1, 0.02)), True),
    ("relation", "red", "in front of", at((0.15, -0.1, 0.02)), False),
    ("relation", "red", "behind", at((0.42, -0.1, 0.03)), False),
    ("drawer", "drawer", "", OPEN_DRAWER, True),
    ("drawer", "drawer", "", {"travels": {"drawer": 0.05}}, False),
    ("button", "red button", "", PRESSED, True),
    ("button", "red button", "", {**PRESSED, "first_touched": "blue button"}, False),
    ("button", "red button", "", {**PRESSED, "travels": {"red button": 0.004}}, False),
    ("wipe", "mark", "", {"travels": {"mark": 1.0}}, True),
    ("wipe", "mark", "", {"travels": {"mark": 0.8}}, False),
    ("knob", "knob", "to the left", {"travels": {"knob": 0.75}}, True),
    ("knob", "knob", "to the right", {"travels": {"knob": 0.75}}, False),
    ("knob", "knob", "to the right", {"travels": {"knob": -0.6}}, False),
    ("insert", "peg", "", {**STANDING, **one("peg", (0.501, 0.0, 0.05))}, True),
    ("insert", "peg", "", {**STANDING, **one("peg", (0.501, 0.0, 0.085))}, False),
    ("insert", "peg", "", {**STANDING, **one("peg", (0.51, 0.0, 0.05))}, False),
    ("insert", "peg", "", {**STANDING, **one("peg", (0.5, 0.0, 0.05)), **LEANING}, False),
    ("tilt", "cup", "", POURING, True),
    ("tilt", "cup", "", {**POURING, "finger_contacts": {"cup": 1}}, False),
    ("tilt", "cup", "", {**POURING, "tilts": {"cup": 0.6}}, False),
    ("tilt", "cup", "", {**POURING, "bowl": (0.6, 0.1)}, False),
    ("follow", "puck", "", FOLLOWING, True),
    ("follow", "puck", "", {**FOLLOWING, "gripper_opening": 0.05}, False),
    ("follow", "puck", "", {**FOLLOWING, "tool_position": np.array([0.5, 0.0, 0.060])}, False),
    ("follow", "puck", "", {**FOLLOWING, "tool_position": np.array([0.53, 0.0, 0.055])}, False),
]


@pytest.mark.parametrize(("task", "target", "reference", "changes", "expected"), NAMED_CASES)
def test_predicate_of_what_is_named(
    task: str, target: str, reference: str, changes: dict[str, object], expected: bool
) -> None:
    assert tasks.get(task).fulfilled(state(**changes), target, reference) is expected


def test_without_its_target_nothing_may_be_touched() -> None:
    judge = Judge(tasks.get("pick"), "green", absent=True)
    judge.update(state(time=0.0))
    judge.update(state(time=6.98))
    assert not judge.judgement(state()).success
    judge.update(state(time=7.0))
    assert judge.judgement(state()).success
    touching = Judge(tasks.get("pick"), "green", absent=True)
    for time in (0.0, 3.0, 7.0, 14.0):
        touching.update(state(time=time, first_touched="red" if time > 2.0 else None))
    assert not touching.judgement(state()).success


@pytest.mark.parametrize(("task", "changes", "expected"), CASES)
def test_predicate(task: str, changes: dict[str, object], expected: bool) -> None:
    assert tasks.get(task).fulfilled(state(**changes), "red") is expected


@pytest.mark.parametrize(("task", "changes"), [(t, c) for t, c, good in CASES if good])
def test_the_wrong_cube_does_not_count(task: str, changes: dict[str, object]) -> None:
    assert not tasks.get(task).fulfilled(state(**changes), "blue")


def test_success_has_to_be_held() -> None:
    judge = Judge(tasks.get("pick"), "red")
    for time in (1.0, 1.2, 1.48):
        judge.update(state(time=time, **HELD_UP))
    assert not judge.judgement(state()).success
    judge.update(state(time=1.49))
    for time in (1.6, 1.9, 2.08):
        judge.update(state(time=time, **HELD_UP))
    assert not judge.judgement(state()).success, "the interruption did not restart the clock"
    judge.update(state(time=2.1, **HELD_UP))
    judgement = judge.judgement(state())
    assert judgement.success
    assert judgement.time_to_success == 2.1


def test_success_stays() -> None:
    judge = Judge(tasks.get("push"), "red")
    judge.update(state(**at((0.62, 0.0, 0.02))))
    judge.update(state())
    assert judge.judgement(state()).success


def test_judgement_names_what_was_lifted_and_touched() -> None:
    judge = Judge(tasks.get("pick"), "red")
    seen = judge.judgement(state(first_lifted="blue", first_touched="blue"))
    assert (seen.lifted_object, seen.touched_object, seen.named_object) == ("blue", "blue", "red")


def test_another_cube_can_be_named() -> None:
    task = tasks.get("pick")
    instance = task.draw(0, robots.get("panda"))
    other = instance.layout.cubes[1].color
    renamed = instance.naming(other, task)
    assert renamed.layout is instance.layout
    assert renamed.target == other
    assert other in renamed.instruction
    missing = (
        {"red", "green", "blue", "yellow", "pink"} - {c.color for c in renamed.layout.cubes}
    ).pop()
    with pytest.raises(TaskError, match="there are"):
        instance.naming(missing, task)


def test_unknown_task_lists_the_valid_ones() -> None:
    with pytest.raises(TaskError, match="touch, push, pick, place"):
        tasks.get("juggle")
