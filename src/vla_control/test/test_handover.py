# SPDX-License-Identifier: Apache-2.0
"""Changes of hands: gently to a policy or an operator, at once to nobody, and never past safety."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from arm import JOINT_IMPEDANCE, Plant, glide, make_config, start_moving

import vla_control as vc
from vla_control import Fault, Owner, Phase
from vla_control import RejectReason as R

GENTLE = 1.5  # m/s^2
LAWS = pytest.mark.parametrize("law", [{}, JOINT_IMPEDANCE], ids=["task", "joint"])


def moving(**settings: object) -> Plant:
    """An arm in the middle of a motion, whose supervisor has granted it to a policy."""
    plant = Plant(
        config=make_config(heartbeat_timeout_s=0.1, chunk__accept_twists=True, **settings)
    )
    plant.beat, plant.owner = (7, 1), Owner.POLICY
    plant.run(0.01)
    start_moving(plant)
    return plant


def accelerations(states: list[vc.ControllerState]) -> np.ndarray:
    """Of the tool's reference, m/s^2."""
    rows = np.array([s.reference_acceleration_tool_in_base[:3] for s in states])
    return np.asarray(np.linalg.norm(rows, axis=1))


def jumps(states: list[vc.ControllerState]) -> tuple[float, float]:
    """Largest step of reference (m) and of its velocity (m/s) that is no motion."""
    period = 1e-3
    p = np.array([s.reference_pose_tool_in_base[:3, 3] for s in states])
    v = np.array([s.reference_twist_tool_in_base[:3] for s in states])
    a = np.array([s.reference_acceleration_tool_in_base[:3] for s in states])
    of_position = np.diff(p, axis=0) - 0.5 * period * (v[1:] + v[:-1])
    of_velocity = np.diff(v, axis=0) - 0.5 * period * (a[1:] + a[:-1])
    return (
        float(np.linalg.norm(of_position, axis=1).max()),
        float(np.linalg.norm(of_velocity, axis=1).max()),
    )


def grant(plant: Plant, owner: Owner) -> None:
    assert plant.beat is not None
    plant.beat, plant.owner = (plant.beat[0], plant.beat[1] + 1), owner
    plant.sequence = 0


@LAWS
@pytest.mark.parametrize("owner", [Owner.POLICY, Owner.OPERATOR])
def test_a_new_owner_finds_an_arm_that_slows_down_gently(
    owner: Owner, law: dict[str, object]
) -> None:
    plant = moving(**law)
    before = plant.controller.state()
    speed = np.linalg.norm(before.reference_twist_tool_in_base[:3])
    already = accelerations([before])[0]
    grant(plant, owner)
    states = [before, *plant.run(0.5)]
    assert states[1].phase is Phase.BRAKING
    assert accelerations(states).max() <= max(GENTLE * 1.02, already)
    assert all(step <= most for step, most in zip(jumps(states), (1e-6, 1e-4), strict=True))
    jerk = np.diff([s.reference_acceleration_tool_in_base[:3] for s in states], axis=0) * 1e3
    assert np.linalg.norm(jerk, axis=1).max() < 60.0  # m/s^3
    path = [s.reference_pose_tool_in_base[:3, 3] for s in states]
    way = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    assert way <= 0.2 * speed + 0.0133 * already + 1e-4
    assert states[-1].phase is Phase.HOLDING  # nobody has come


@LAWS
@pytest.mark.parametrize("owner", [Owner.NONE, Owner.RECOVERY])
def test_a_grant_that_nobody_follows_brakes_at_once(owner: Owner, law: dict[str, object]) -> None:
    """The positive control of what is gentle: the same measure is far beyond its bound."""
    plant = moving(**law)
    grant(plant, owner)
    states = plant.run(0.15)
    assert accelerations(states).max() > 1.5 * GENTLE
    assert states[-1].phase is Phase.HOLDING


@LAWS
@pytest.mark.parametrize(
    "lose",
    [
        lambda plant: plant.controller.stop(),
        lambda plant: plant.controller.revoke(),
        lambda plant: grant(plant, Owner.NONE),
        lambda plant: grant(plant, Owner.RECOVERY),
        lambda plant: setattr(plant, "beat", None),
    ],
    ids=["stop", "revoke", "paused", "recovery", "heartbeat lost"],
)
@pytest.mark.parametrize("taken_up", [False, True], ids=["pending", "taken up"])
def test_what_is_handed_over_is_braked_at_once_when_it_is_lost(
    lose: Callable[[Plant], None], taken_up: bool, law: dict[str, object]
) -> None:
    plant = moving(**law)
    grant(plant, Owner.OPERATOR)
    plant.run(0.02)
    if taken_up:
        assert plant.push(glide(plant.pose, [0.12, 0.05, -0.08], ramp=False)) is R.NONE
        plant.run(0.2)
    assert plant.controller.state().phase is (Phase.TRACKING if taken_up else Phase.BRAKING)
    assert np.linalg.norm(plant.controller.state().reference_twist_tool_in_base[:3]) > 0.05
    lose(plant)
    silent = plant.beat is None
    states = plant.run(0.1 if silent else 0.0)
    states += plant.run(0.12)
    still = states[-1].reference_twist_tool_in_base[:3]
    assert np.linalg.norm(still) < 1e-9
    assert not plant.controller.state().torque_rate_saturated
    if states[-1].phase is Phase.FAULT:
        assert states[-1].fault is Fault.STOP_REQUESTED


@LAWS
@pytest.mark.parametrize("told", [True, False], ids=["heartbeat first", "chunk first"])
def test_the_new_owners_chunks_are_taken_up_gently(told: bool, law: dict[str, object]) -> None:
    plant = moving(**law)
    states = [plant.controller.state()]
    already = accelerations(states)[0]
    if told:
        grant(plant, Owner.OPERATOR)
        states += plant.run(0.02)
    for number in range(40):
        assert plant.beat is not None
        twist = [[-0.05, 0.1, 0.0, 0.0, 0.0, 0.0]]
        changes: dict[str, object] = {"mode": vc.ChunkMode.TWIST, "twists": twist, "step_dt": 0.1}
        if not told and number == 0:
            changes.update(grant=plant.beat[1] + 1)
        assert plant.push(None, **changes) is R.NONE
        if not told and number == 0:
            plant.beat, plant.owner = (plant.beat[0], plant.beat[1] + 1), Owner.OPERATOR
        states += plant.run(0.02)
    assert accelerations(states).max() <= max(1.3 * GENTLE, already)
    assert all(step <= most for step, most in zip(jumps(states), (1e-6, 1e-4), strict=True))
    reached = plant.run(0.05)[0].reference_twist_tool_in_base[:2]
    np.testing.assert_allclose(reached, [-0.05, 0.1], atol=0.02)


def test_a_hand_that_is_followed_pose_by_pose_does_not_wait_for_a_policys_blend() -> None:
    """The positive control: a policy's way to the same place is taken up over a longer time."""
    settled = {}
    for steps in (1, 17):
        plant = moving()
        grant(plant, Owner.OPERATOR)
        target = plant.controller.state().reference_pose_tool_in_base.copy()
        off = []
        for _ in range(100):
            assert plant.push(np.repeat(target[None], steps, axis=0)) is R.NONE
            plant.run(0.02)
            at = plant.controller.state().reference_pose_tool_in_base[:3, 3]
            off.append(np.linalg.norm(at - target[:3, 3]))
        settled[steps] = 0.02 * (1 + np.flatnonzero(np.array(off) > 0.002)[-1])
    assert settled[1] < 1.0
    assert 1.0 < settled[17] < 1.65


def test_a_brake_that_would_leave_the_workspace_is_not_gentle() -> None:
    ends = {}
    for room in (0.005, 0.1):
        start = Plant().pose[:3, 3]
        most = [float(start[0] + 0.24 + room), 2.0, 2.0]
        plant = Plant(config=make_config(heartbeat_timeout_s=0.1, workspace_max=most))
        plant.beat, plant.owner = (7, 1), Owner.POLICY
        plant.run(0.01)
        assert plant.push(glide(plant.pose, [0.24, 0.0, 0.0], steps=17, ramp=False)) is R.NONE
        plant.run(0.72)
        grant(plant, Owner.OPERATOR)
        ends[room] = plant.run(0.5)[-1].reference_pose_tool_in_base[0, 3] - start[0] - 0.24
    assert ends[0.005] <= 0.005
    assert ends[0.1] > 0.005, "the positive control: with room the gentle brake goes beyond"


def test_another_boot_is_no_change_of_hands() -> None:
    plant = moving()
    plant.beat, plant.owner = (8, 1), Owner.POLICY
    assert accelerations(plant.run(0.15)).max() > 1.5 * GENTLE
