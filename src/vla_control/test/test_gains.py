# SPDX-License-Identifier: Apache-2.0
"""Coupled stiffness, gains that change at run time, the operational-space law."""

from __future__ import annotations

import numpy as np
import pytest
from arm import Plant, glide, make_config, rotation, start_moving

import vla_control as vc
from vla_control import RejectReason as R

PUSH = np.array([3.0, -2.0, 4.0, 0.1, 0.2, -0.1])


def coupled() -> np.ndarray:
    """A stiffness with a centre beside the tool point and principal axes of its own."""
    turn = np.kron(np.eye(2), rotation([0.5, -0.4, 0.9]))
    shift = np.eye(6)
    shift[3:, :3] = [[0.0, -0.02, 0.01], [0.02, 0.0, -0.03], [-0.01, 0.03, 0.0]]
    diagonal = np.diag([800.0, 500.0, 300.0, 40.0, 30.0, 20.0])
    return shift @ turn @ diagonal @ turn.T @ shift.T


def deflection(plant: Plant) -> np.ndarray:
    """Of the tool from the reference, m and rad."""
    state = plant.controller.state()
    pose, reference = state.pose_tool_in_base, state.reference_pose_tool_in_base
    turn = vc.so3_log(pose[:3, :3] @ reference[:3, :3].T)
    return np.concatenate([pose[:3, 3] - reference[:3, 3], turn])


def pushed(**changes: object) -> Plant:
    plant = Plant(config=make_config(nullspace_stiffness=0.0, **changes))
    plant.wrench = PUSH.copy()
    plant.run(2.5)
    return plant


def test_a_push_is_answered_with_the_whole_stiffness_matrix() -> None:
    plant = pushed(stiffness_matrix=list(coupled().ravel()))
    np.testing.assert_allclose(coupled() @ deflection(plant), PUSH, atol=0.03)


def test_the_stiffness_may_be_given_in_tool_axes() -> None:
    plant = pushed(stiffness_matrix=list(coupled().ravel()), stiffness_frame=vc.StiffnessFrame.TOOL)
    turn = np.kron(np.eye(2), plant.controller.state().reference_pose_tool_in_base[:3, :3])
    in_base = turn @ coupled() @ turn.T
    np.testing.assert_allclose(in_base @ deflection(plant), PUSH, atol=0.03)
    assert np.abs(coupled() @ deflection(plant) - PUSH).max() > 0.3  # the frames do differ


def test_gains_change_without_a_jump_and_take_effect() -> None:
    plant = pushed()
    before = deflection(plant)
    assert plant.controller.set_gains(vc.TaskGains(coupled(), 0.8))
    states = plant.run(2.5)
    torques = np.array([plant.tau] + [s.tau_command for s in states])
    assert np.abs(np.diff(torques[1:], axis=0)).max() < 0.15
    after = deflection(plant)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(coupled() @ after, PUSH, atol=0.03)


def test_gains_in_the_middle_of_a_change_and_of_a_motion() -> None:
    plant = Plant()
    start_moving(plant, 0.2)
    rng = np.random.default_rng(4)
    torques = [plant.tau]
    for _ in range(6):
        diagonal = np.concatenate([rng.uniform(200, 1500, 3), rng.uniform(15, 60, 3)])
        assert plant.controller.set_gains(vc.TaskGains(np.diag(diagonal), rng.uniform(0.7, 1.3)))
        for _ in range(60):  # less than the ramp takes
            torques.append(plant.step())
    assert np.abs(np.diff(torques, axis=0)).max() < 0.6
    state = plant.controller.state()
    assert not state.torque_rate_saturated


@pytest.mark.parametrize(
    "gains",
    [
        vc.TaskGains(np.diag([600.0] * 3 + [30.0, 30.0, 0.0])),
        vc.TaskGains(np.diag([600.0, 600.0, 2e4, 30.0, 30.0, 30.0])),
        vc.TaskGains(np.diag([600.0] * 3 + [30.0] * 3) + 10.0 * np.eye(6, k=1)),
        vc.TaskGains(
            np.diag([600.0] * 3 + [30.0] * 3) + 200.0 * (np.eye(6, k=3) + np.eye(6, k=-3))
        ),
        vc.TaskGains(np.full((6, 6), np.nan)),
        vc.TaskGains(np.diag([600.0] * 3 + [30.0] * 3), -1.0),
        vc.TaskGains(np.diag([600.0] * 3 + [30.0] * 3), float("nan")),
    ],
)
def test_impossible_gains_are_refused(plant: Plant, gains: vc.TaskGains) -> None:
    start_moving(plant)
    assert not plant.controller.set_gains(gains)
    assert np.isfinite(plant.step()).all()


def test_gains_set_before_an_activation_count_from_its_start() -> None:
    plant = Plant(config=make_config(nullspace_stiffness=0.0))
    plant.controller.deactivate()
    assert plant.controller.set_gains(vc.TaskGains(coupled()))
    plant.controller.activate(plant.q, plant.dq, plant.time_ns)
    plant.wrench = PUSH.copy()
    plant.run(2.5)
    np.testing.assert_allclose(coupled() @ deflection(plant), PUSH, atol=0.03)


def test_a_reset_from_a_fault_is_smooth_with_a_coupled_stiffness() -> None:
    plant = pushed(stiffness_matrix=list(coupled().ravel()))
    plant.controller.stop()
    plant.run(0.5)
    before = plant.tau
    plant.controller.reset()
    np.testing.assert_allclose(plant.step(), before, atol=2e-3)


OPERATIONAL = {"task_law": vc.TaskLawKind.OPERATIONAL_SPACE, "jacobian_rate_feed_forward": True}


def test_the_operational_space_law_tracks() -> None:
    plant = Plant(config=make_config(**OPERATIONAL))
    assert plant.push(glide(plant.pose, [0.12, 0.1, -0.1], [0.1, 0.2, 0.3])) is R.NONE
    for _ in range(1300):
        plant.step()
        assert np.abs(deflection(plant)).max() < 6e-4


def test_the_operational_space_law_makes_every_direction_the_same() -> None:
    """A tool let go of with an error returns straight, as one mass with the frequency asked for."""
    plant = Plant(
        config=make_config(nullspace_stiffness=0.0, translational_frequency=12.0, **OPERATIONAL)
    )
    plant.wrench[:3] = [6.0, 4.0, -5.0]
    plant.run(2.0)
    start = deflection(plant)[:3]
    assert np.linalg.norm(start) > 4e-3
    plant.wrench[:] = 0.0
    for i in range(1, 301):
        plant.step()
        t = 1e-3 * i
        expected = start * (1 + 12.0 * t) * np.exp(-12.0 * t)
        assert np.linalg.norm(deflection(plant)[:3] - expected) < 0.05 * np.linalg.norm(start)


def test_a_reset_from_a_fault_is_smooth_with_the_operational_space_law() -> None:
    plant = Plant(config=make_config(**OPERATIONAL))
    plant.wrench[:3] = [0.0, 3.0, 6.0]
    plant.run(0.5)
    plant.controller.stop()
    plant.run(0.8)
    before = plant.tau
    plant.controller.reset()
    np.testing.assert_allclose(plant.step(), before, atol=2e-3)
