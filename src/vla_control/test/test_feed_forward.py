# SPDX-License-Identifier: Apache-2.0
"""Friction, rotor inertia, path curvature, payload, tare and integral: each measured on a plant."""

from __future__ import annotations

import numpy as np
import pinocchio
import pytest
from arm import HOME, Plant, glide, make_config, make_description, moved, start_moving

import vla_control as vc
from vla_control import RejectReason as R

FRICTION = (0.2, 0.5)
ARMATURE = 0.1
MODELLED = {
    "friction__coulomb": [FRICTION[0]] * 7,
    "friction__viscous": [FRICTION[1]] * 7,
    "rotor_inertia": [ARMATURE] * 7,
    "jacobian_rate_feed_forward": True,
}


def position_errors(states: list[vc.ControllerState]) -> np.ndarray:
    return np.array(
        [s.reference_pose_tool_in_base[:3, 3] - s.pose_tool_in_base[:3, 3] for s in states]
    )


def rms(states: list[vc.ControllerState]) -> float:
    return float(np.sqrt((position_errors(states) ** 2).sum(axis=1).mean()))


def sweep(plant: Plant) -> list[vc.ControllerState]:
    """A move of 0.8 s."""
    assert plant.push(glide(plant.pose, [0.12, 0.1, -0.1], [0.1, 0.2, 0.3])) is R.NONE
    return plant.run(0.8)


def test_friction_and_rotor_inertia_in_the_model_take_most_of_the_error() -> None:
    plain = rms(sweep(Plant(friction=FRICTION, armature=ARMATURE)))
    known = rms(sweep(Plant(friction=FRICTION, armature=ARMATURE, config=make_config(**MODELLED))))
    assert plain > 2e-3  # the control: without the model the arm lags by millimetres
    assert known < 0.1 * plain


@pytest.mark.parametrize("name", sorted(MODELLED))
def test_every_part_of_it_pays(name: str) -> None:
    known = rms(sweep(Plant(friction=FRICTION, armature=ARMATURE, config=make_config(**MODELLED))))
    others = {key: value for key, value in MODELLED.items() if key != name}
    without = rms(sweep(Plant(friction=FRICTION, armature=ARMATURE, config=make_config(**others))))
    assert without > 1.5 * known


def test_a_resting_reference_gets_no_friction_torque() -> None:
    """What the arm measures has no part in it: pushed around, it feels the same law."""
    torques = []
    for changes in ({}, {key: MODELLED[key] for key in MODELLED if key.startswith("friction")}):
        plant = Plant(config=make_config(**changes))
        plant.wrench[:3] = [5.0, -8.0, 3.0]
        torques.append(np.array([s.tau_command for s in plant.run(0.2)]))
        assert np.abs(plant.dq).max() > 0.01
    np.testing.assert_array_equal(torques[0], torques[1])


@pytest.mark.parametrize("mount", [{}, {"base_xyz": "0.5 -0.2 1.1", "base_rpy": "0.7 -1.2 2.5"}])
def test_the_acceleration_bias_is_the_derivative_of_the_jacobian(mount: dict[str, str]) -> None:
    model = vc.RobotModel(make_description(**mount))
    rng = np.random.default_rng(3)
    for _ in range(10):
        q, dq = rng.uniform(-2, 2, 7), rng.uniform(-2, 2, 7)
        h = 1e-6
        expected = (model.jacobian(q + h * dq) - model.jacobian(q - h * dq)) / (2 * h) @ dq
        for gravity in (True, False):
            np.testing.assert_allclose(
                model.acceleration_bias(q, dq, gravity), expected, atol=1e-7, rtol=1e-7
            )


def test_the_curvature_of_the_path_pays_in_fast_motion() -> None:
    def error(on: bool) -> float:
        plant = Plant(config=make_config(jacobian_rate_feed_forward=on))
        poses = glide(plant.pose, [0.15, 0.14, -0.1], [0.0, 0.0, 0.6])
        assert plant.push(poses) is R.NONE
        return rms(plant.run(0.75))

    assert error(True) < 0.2 * error(False)


def test_the_payload_is_part_of_the_model() -> None:
    description = make_description()
    model = vc.RobotModel(description)
    plant = Plant(load=(1.3, (0.02, -0.05, 0.1)))
    bare = model.gravity(HOME)
    payload = vc.Payload(1.3, [0.02, -0.05, 0.1], 1.3e-3 * np.eye(3))
    model.set_payload(payload)
    gravity = pinocchio.computeGeneralizedGravity(plant.model, plant.data, HOME)
    np.testing.assert_allclose(model.gravity(HOME), gravity, atol=1e-10)
    mass = pinocchio.crba(plant.model, plant.data, HOME)
    np.testing.assert_allclose(np.triu(model.mass_matrix(HOME)), np.triu(mass), atol=1e-10)
    model.set_payload(vc.Payload())
    np.testing.assert_allclose(model.gravity(HOME), bare, atol=1e-12)


@pytest.mark.parametrize("gravity", [True, False], ids=["ours", "the robot's"])
def test_a_known_payload_does_not_sag(gravity: bool) -> None:
    load = (0.8, (0.0, 0.03, 0.08))

    def sag(**changes: object) -> float:
        config = make_config(command_includes_gravity=gravity, **changes)
        plant = Plant(config=config, load=load)
        if not gravity:  # the robot compensates its own weight, not the payload's
            own = vc.RobotModel(make_description())
            update = plant.controller.update

            class Compensating:
                def __getattr__(self, name: str) -> object:
                    return getattr(controller, name)

                def update(self, *arguments: object) -> np.ndarray:
                    return update(*arguments) + own.gravity(plant.q)  # type: ignore[arg-type]

            controller = plant.controller
            plant.controller = Compensating()  # type: ignore[assignment]
        start = plant.pose[:3, 3].copy()
        plant.run(0.8)
        return float(np.linalg.norm(plant.pose[:3, 3] - start))

    assert sag() > 8e-3
    assert sag(payload=vc.Payload(load[0], load[1], 0.8e-3 * np.eye(3))) < 1e-5


def test_a_change_of_payload_is_ramped() -> None:
    plant = Plant(load=(1.0, (0.0, 0.0, 0.1)))
    plant.run(1.0)
    sagged = np.linalg.norm(position_errors(plant.run(0.01))[-1])
    assert sagged > 0.01
    assert plant.controller.set_payload(vc.Payload(1.0, [0.0, 0.0, 0.1], 1e-3 * np.eye(3)))
    states = plant.run(0.5)
    assert np.abs(np.diff([s.tau_command for s in states], axis=0)).max() < 0.1
    masses = [s.payload_mass for s in states]
    assert (np.diff(masses) >= 0.0).all()
    assert states[250].payload_mass == pytest.approx(0.5, abs=0.01)
    assert np.linalg.norm(position_errors(plant.run(1.0))[-1]) < 2e-4


@pytest.mark.parametrize(
    "payload",
    [
        vc.Payload(-1.0),
        vc.Payload(float("nan")),
        vc.Payload(101.0),
        vc.Payload(1.0, [0.0, 0.0, 3.0]),
        vc.Payload(1.0, [0.0, 0.0, 0.1], np.diag([0.1, 0.1, -0.1])),
        vc.Payload(1.0, [0.0, 0.0, 0.1], np.diag([1.0, 0.1, 0.1])),
        vc.Payload(1.0, bias=[float("inf"), 0, 0, 0, 0, 0]),
    ],
)
def test_impossible_payloads_are_refused(plant: Plant, payload: vc.Payload) -> None:
    assert not plant.controller.set_payload(payload)
    plant.run(0.1)
    assert plant.controller.state().payload_mass == 0.0
    np.testing.assert_allclose(plant.q, HOME, atol=1e-9)
    with pytest.raises(ValueError, match="payload"):
        vc.Controller(make_description(), make_config(payload=payload))


def test_a_tare_carries_an_unknown_payload_in_any_pose() -> None:
    # Along gravity the centre of mass does not show in one pose: it lies in the tool point here.
    plant = Plant(load=(0.5, (0.0, 0.04, 0.0)))
    states = plant.run(1.5)
    assert np.linalg.norm(position_errors(states)[-1]) > 7e-3  # m g / K
    plant.controller.tare()
    states = plant.run(0.1)
    assert states[-1].tares == 0  # it takes its time
    states = plant.run(1.8)
    assert states[-1].tares == 1
    assert states[-1].payload_mass == pytest.approx(0.5, rel=0.02)
    assert np.linalg.norm(position_errors(states)[-1]) < 2e-4
    assert np.abs(np.diff([s.tau_command for s in states], axis=0)).max() < 0.1
    # Turned by 0.8 rad, the moment of the payload is still the right one.
    assert plant.push(glide(plant.pose, [0.0, 0.05, 0.0], [0.8, 0.0, 0.0]), step_dt=0.1) is R.NONE
    plant.run(1.6)
    state = plant.run(1.2)[-1]
    assert np.linalg.norm(position_errors([state])[0]) < 5e-4
    turn = vc.so3_log(state.reference_pose_tool_in_base[:3, :3] @ state.pose_tool_in_base[:3, :3].T)
    assert np.linalg.norm(turn) < 2e-3
    # A second tare finds nothing new.
    plant.controller.tare()
    assert plant.run(0.9)[-1].payload_mass == pytest.approx(0.5, rel=0.02)


def test_a_tare_waits_for_rest() -> None:
    plant = Plant()
    start_moving(plant, 0.3)
    plant.controller.tare()
    assert plant.run(0.4)[-1].tares == 0
    assert plant.run(1.5)[-1].tares == 1
    assert plant.controller.state().payload_mass == 0.0


def test_the_integral_takes_what_static_friction_leaves() -> None:
    def left(**changes: object) -> float:
        plant = Plant(friction=(0.5, 0.5), armature=ARMATURE, config=make_config(**changes))
        plant.push(glide(plant.pose, [0.1, 0.05, -0.05]))
        return float(np.linalg.norm(position_errors(plant.run(2.6))[-1]))

    assert left() > 5e-3
    assert left(integral__gain=4.0) < 1e-3


def test_the_integral_is_clamped_and_rests_in_contact() -> None:
    def force(push: float) -> float:
        plant = Plant(config=make_config(integral__gain=5.0, integral__max_force=6.0))
        plant.wrench[0] = push
        last = plant.run(2.0)[-1]
        spring = 600.0 * position_errors([last])[0][0]
        return -last.wrench_command[0] + spring

    assert 5.0 < force(8.0) <= 6.05  # below the contact threshold it takes over what it may
    assert abs(force(20.0)) < 1.0  # contact: the spring alone answers


def test_a_hold_in_fault_carries_the_payload_too() -> None:
    plant = Plant(
        load=(0.8, (0.0, 0.0, 0.08)),
        config=make_config(payload=vc.Payload(0.8, [0.0, 0.0, 0.08], 0.8e-3 * np.eye(3))),
    )
    start = plant.pose
    plant.run(0.05)
    plant.controller.stop()
    plant.run(0.3)
    for _ in range(30):
        plant.step(np.full(7, np.nan))  # blind: the weight is still carried
    assert np.linalg.norm(plant.pose[:3, 3] - start[:3, 3]) < 1e-4
    plant.controller.reset()
    plant.run(0.3)
    np.testing.assert_allclose(plant.pose, moved(start, np.zeros(3)), atol=1e-4)
