# SPDX-License-Identifier: Apache-2.0
"""What the arm feels: observed torque and wrench, contact, lost objects, plausible effort."""

from __future__ import annotations

import numpy as np
import pytest
from arm import HOME, Plant, glide, make_config, make_description, start_moving

import vla_control as vc
from vla_control import EffortState
from vla_control import RejectReason as R

PUSH = np.array([4.0, -3.0, 6.0, 0.4, 0.3, -0.2])


@pytest.mark.parametrize("gravity", [True, False], ids=["ours", "the robot's"])
def test_the_observer_finds_a_push_at_rest_and_in_motion(gravity: bool) -> None:
    plant = Plant(config=make_config(command_includes_gravity=gravity))
    if not gravity:
        plant.model.gravity.linear = np.zeros(3)
    start_moving(plant, 0.3)
    assert np.abs(plant.controller.state().external_wrench).max() < 0.05  # motion is no push
    plant.wrench = PUSH.copy()
    state = plant.run(0.3)[-1]
    assert state.phase is vc.Phase.TRACKING
    np.testing.assert_allclose(state.external_wrench, PUSH, atol=0.15)
    jacobian = plant.kinematics.jacobian(plant.q)
    np.testing.assert_allclose(state.external_torque, jacobian.T @ PUSH, atol=0.1)
    state = plant.run(1.2)[-1]
    np.testing.assert_allclose(state.external_wrench, PUSH, atol=0.02)


@pytest.mark.parametrize("rate", [250.0, 1000.0])
def test_the_observer_is_a_filter_of_first_order(rate: float) -> None:
    plant = Plant(
        config=make_config(rate=rate, sensing__observer_bandwidth=20.0),
        rate=rate,
        substeps=round(4000 / rate),
    )
    plant.run(0.1)
    plant.wrench[0] = 5.0
    forces = np.array([s.external_wrench[0] for s in plant.run(0.4)])
    times = np.arange(len(forces)) / rate  # the first cycle has seen no motion yet
    np.testing.assert_allclose(forces, 5.0 * (1 - np.exp(-20.0 * times)), atol=0.15)


def test_modelled_friction_is_no_push() -> None:
    def felt(**changes: object) -> float:
        plant = Plant(friction=(0.4, 1.0), config=make_config(**changes))
        start_moving(plant, 0.5)
        return float(np.abs(plant.controller.state().external_torque).max())

    model = {"friction__coulomb": [0.4] * 7, "friction__viscous": [1.0] * 7}
    assert felt() > 0.8  # the control
    assert felt(**model) < 0.3


def test_contact_has_hysteresis() -> None:
    plant = Plant()

    def contact_under(force: float, seconds: float = 0.3) -> bool:
        plant.wrench[2] = force
        return plant.run(seconds)[-1].in_contact

    assert not contact_under(8.0)
    assert contact_under(13.0)
    assert contact_under(8.0)  # above the release threshold it goes on
    assert not contact_under(4.0)
    assert not contact_under(8.0)
    plant.wrench[:] = 0.0
    plant.wrench[4] = 3.0  # a moment counts, too
    assert plant.run(0.3)[-1].in_contact


def test_fast_motion_is_no_contact() -> None:
    plant = Plant()
    assert plant.push(glide(plant.pose, [0.15, 0.14, -0.1], [0.0, 0.0, 0.6])) is R.NONE
    assert not any(s.in_contact for s in plant.run(1.0))


def test_bad_joint_states_are_no_contact() -> None:
    plant = Plant()
    start_moving(plant)
    for _ in range(5):
        plant.step(np.full(7, np.nan))
    assert not any(s.in_contact for s in plant.run(0.3))


def carrying(mass: float) -> Plant:
    load = (mass, (0.0, 0.0, 0.05))
    return Plant(
        load=load,
        config=make_config(payload=vc.Payload(mass, [0.0, 0.0, 0.05], 1e-3 * mass * np.eye(3))),
    )


def test_a_dropped_object_is_noticed() -> None:
    plant = carrying(0.5)
    start_moving(plant, 0.3)
    assert not any(s.object_lost for s in plant.run(0.8))
    plant.carry(None)
    states = plant.run(0.6)
    lost = [s.object_lost for s in states]
    assert any(lost)
    assert 0.15 <= lost.index(True) * 1e-3 < 0.4
    assert plant.controller.set_payload(vc.Payload())
    assert not plant.run(0.8)[-1].object_lost


def test_without_an_expected_object_none_is_lost() -> None:
    plant = Plant()
    plant.wrench[2] = 0.5 * 9.81
    assert not any(s.object_lost for s in plant.run(0.6))
    # A push sideways does not look like a loss, nor does a hard one from below.
    plant = carrying(0.5)
    plant.wrench[:3] = [9.0, 0.0, 0.5 * 9.81]
    assert not any(s.object_lost for s in plant.run(0.6))
    plant.wrench[:3] = [0.0, 0.0, 2.5 * 0.5 * 9.81]
    assert not any(s.object_lost for s in plant.run(0.6)[100:])


def test_an_activation_starts_from_nothing() -> None:
    plant = Plant()
    plant.wrench[2] = 20.0
    assert plant.run(0.3)[-1].in_contact
    plant.controller.deactivate()
    plant.controller.activate(plant.q, np.zeros(7), plant.time_ns)
    state = plant.controller.state()
    assert not state.in_contact
    np.testing.assert_array_equal(state.external_wrench, np.zeros(6))


def test_the_meaning_of_effort_must_be_declared() -> None:
    config = make_config()
    config.effort_state = None
    with pytest.raises(ValueError, match=r"effort_state.*TOTAL.*GRAVITY_FREE.*CURRENT.*NONE"):
        vc.Controller(make_description(), config)


def activation(state: EffortState, effort: np.ndarray | None, **changes: object) -> str:
    """Empty if the activation succeeds, otherwise why not."""
    controller = vc.Controller(make_description(), make_config(effort_state=state, **changes))
    try:
        controller.activate(HOME, np.zeros(7), 0, effort)
    except ValueError as error:
        assert controller.state().phase is vc.Phase.INACTIVE
        return str(error)
    assert controller.state().phase is vc.Phase.HOLDING
    return ""


def test_an_implausible_static_residual_is_refused() -> None:
    gravity = vc.RobotModel(make_description()).gravity(HOME)
    assert (np.abs(gravity) - 1.0 > 0.1 * np.array([87.0] * 4 + [12.0] * 3)).any()
    rub = 0.5 * np.ones(7)
    for ours in (True, False):
        changes = {"command_includes_gravity": ours}
        assert activation(EffortState.TOTAL, gravity + rub, **changes) == ""
        assert activation(EffortState.GRAVITY_FREE, rub, **changes) == ""
        # Declared as the other, each is refused.
        assert "STATIC_RESIDUAL" in activation(EffortState.TOTAL, rub, **changes)
        assert "STATIC_RESIDUAL" in activation(EffortState.GRAVITY_FREE, gravity, **changes)
    # What is no torque says nothing.
    assert activation(EffortState.CURRENT, gravity) == ""
    assert activation(EffortState.NONE, None) == ""
    assert activation(EffortState.NONE, 1e3 * rub) == ""


def test_a_declared_effort_must_be_there() -> None:
    nan = np.full(7, np.nan)
    for effort in (None, nan, np.zeros(6), np.zeros(0)):
        assert "EFFORT_MISSING" in activation(EffortState.TOTAL, effort)
        assert "EFFORT_MISSING" in activation(EffortState.GRAVITY_FREE, effort)


def test_a_declared_payload_is_expected_in_the_effort() -> None:
    load = vc.Payload(2.0, [0.0, 0.0, 0.1], 1e-3 * np.eye(3))
    loaded = vc.RobotModel(make_description())
    empty = loaded.gravity(HOME)
    loaded.set_payload(load)
    full = loaded.gravity(HOME)
    bounds = {"max_static_residual": [2.0] * 7}
    assert activation(EffortState.TOTAL, full, payload=load, **bounds) == ""
    assert activation(EffortState.GRAVITY_FREE, full - empty, payload=load, **bounds) == ""
    assert "STATIC_RESIDUAL" in activation(EffortState.TOTAL, full, **bounds)
    assert "STATIC_RESIDUAL" in activation(EffortState.TOTAL, empty, payload=load, **bounds)


def test_contact_carried_into_a_chunk_stays_contact() -> None:
    plant = Plant()
    plant.wrench[2] = 14.0
    plant.run(0.3)
    assert plant.push(glide(plant.pose, [0.05, 0.0, 0.0])) is R.NONE
    assert all(s.in_contact for s in plant.run(0.9))
