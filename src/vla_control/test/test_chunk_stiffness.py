# SPDX-License-Identifier: Apache-2.0
"""Stiffness that chunks bring step by step: checked, smooth, damped, and paid for by the tank."""

from __future__ import annotations

import numpy as np
import pytest
from arm import Plant, make_config, rotation
from numpy.typing import NDArray

import vla_control as vc
from vla_control import RejectReason as R

Floats = NDArray[np.float64]
STEPS = 10
CONFIGURED = np.diag([600.0] * 3 + [30.0] * 3)


def arm(**changes: object) -> Plant:
    return Plant(
        config=make_config(chunk__accept_stiffness=True, nullspace_stiffness=0.0, **changes)
    )


def coupled(scale: float = 1.0) -> Floats:
    """A stiffness with principal axes of its own and a centre beside the tool point."""
    turn = np.kron(np.eye(2), rotation([0.5, -0.4, 0.9]))
    shift = np.eye(6)
    shift[3:, :3] = [[0.0, -0.02, 0.01], [0.02, 0.0, -0.03], [-0.01, 0.03, 0.0]]
    diagonal = scale * np.diag([900.0, 500.0, 300.0, 40.0, 30.0, 20.0])
    return shift @ turn @ diagonal @ turn.T @ shift.T


def hold(plant: Plant, stiffness: object, steps: int = STEPS, **changes: object) -> R:
    """A chunk that stays where the reference is."""
    pose = plant.controller.state().reference_pose_tool_in_base
    return plant.push(np.array([pose] * steps), stiffness=stiffness, **changes)


def deflection(plant: Plant) -> Floats:
    state = plant.controller.state()
    pose, reference = state.pose_tool_in_base, state.reference_pose_tool_in_base
    turn = vc.so3_log(pose[:3, :3] @ reference[:3, :3].T)
    return np.concatenate([pose[:3, 3] - reference[:3, 3], turn])


PUSH = np.array([3.0, -2.0, 4.0, 0.1, 0.2, -0.1])


@pytest.mark.parametrize("frame", [vc.StiffnessFrame.BASE, vc.StiffnessFrame.TOOL])
def test_a_push_is_answered_with_the_chunks_stiffness_and_then_with_the_configured_one(
    frame: vc.StiffnessFrame,
) -> None:
    plant = arm(stiffness_frame=frame)
    plant.wrench = PUSH.copy()
    plant.run(1.5)
    before = deflection(plant)
    for _ in range(4):
        assert hold(plant, np.array([coupled()] * STEPS)) is R.NONE
        plant.run(0.4)
    np.testing.assert_allclose(coupled() @ deflection(plant), PUSH, atol=0.05)
    assert np.abs(deflection(plant) - before).max() > 1e-3
    plant.run(2.5)  # the chunk has run out
    np.testing.assert_allclose(deflection(plant), before, atol=1e-4)


def test_the_torque_has_no_step_while_the_stiffness_changes() -> None:
    plant = arm()
    plant.wrench = PUSH.copy()
    plant.run(1.0)
    rng = np.random.default_rng(3)
    torques = [plant.tau]
    for _ in range(8):
        schedule = np.array([coupled(rng.uniform(0.3, 1.6)) for _ in range(STEPS)])
        assert hold(plant, schedule) is R.NONE
        for _ in range(170):  # a new one in the middle of the ramp to the one before
            torques.append(plant.step())
    plant.controller.revoke()
    for _ in range(400):
        torques.append(plant.step())
    assert np.abs(np.diff(torques, axis=0)).max() < 0.2


def test_damping_follows_the_stiffness() -> None:
    """Let go of under a stiffness of four times the configured one, the tool does not swing."""

    def swing(ratio: float) -> float:
        plant = arm(
            damping_ratio=ratio,
            chunk__max_translational_stiffness=4000.0,
            chunk__max_rotational_stiffness=400.0,
        )
        plant.wrench[:3] = [6.0, 4.0, -5.0]
        stiff = np.array([4.0 * CONFIGURED] * 40)
        assert hold(plant, stiff, 40) is R.NONE
        plant.run(1.0)
        start = deflection(plant)[:3]
        plant.wrench[:] = 0.0
        path = []
        for _ in range(600):
            plant.step()
            path.append(deflection(plant)[:3] @ start / (start @ start))
        return -min(path)

    assert swing(1.0) < 0.01
    assert swing(0.2) > 0.2


@pytest.mark.parametrize(
    ("reason", "spoil"),
    [
        (R.BAD_SHAPE, lambda values: values[:-36]),
        (R.BAD_SHAPE, lambda values: [*values, 1.0]),
        (R.NOT_FINITE, lambda values: [*values[:50], float("nan"), *values[51:]]),
        (R.BAD_STIFFNESS, lambda values: [*values[:1], 50.0, *values[2:]]),
        (R.BAD_STIFFNESS, lambda values: [-x for x in values]),
        (R.BAD_STIFFNESS, lambda values: [3.0 * x for x in values]),
        (R.BAD_STIFFNESS, lambda values: [1e-3 * x for x in values]),
        (R.BAD_STIFFNESS, lambda values: [*values[:36], *[0.0] * (len(values) - 36)]),
    ],
)
def test_a_bad_stiffness_is_rejected(reason: R, spoil: object) -> None:
    plant = arm()
    pose = plant.pose
    chunk = plant.chunk(np.array([pose] * STEPS), stiffness=np.array([coupled()] * STEPS))
    good = list(chunk.stiffness)
    chunk.stiffness = spoil(good)  # type: ignore[operator]
    assert plant.controller.push_chunk(chunk) is reason
    chunk.stiffness = good
    assert plant.controller.push_chunk(chunk) is R.NONE


@pytest.mark.parametrize(
    "changes",
    [
        {"chunk__accept_stiffness": False},
        {"task_law": vc.TaskLawKind.OPERATIONAL_SPACE},
        {"task_law": vc.TaskLawKind.JOINT_IMPEDANCE},
    ],
)
def test_a_stiffness_that_would_not_be_used_is_rejected(changes: dict[str, object]) -> None:
    plant = Plant(config=make_config(**{"chunk__accept_stiffness": True, **changes}))
    assert hold(plant, np.array([CONFIGURED] * STEPS)) is R.UNSUPPORTED_MODE
    assert hold(plant, None) is R.NONE


def test_a_rising_stiffness_takes_its_energy_from_the_tank() -> None:
    """Stretched softly and held, then stiffened and let go of: the spring has gained energy."""

    def peak_energy(capacity: float) -> tuple[float, float]:
        soft = np.diag([60.0] * 3 + [10.0] * 3)
        plant = arm(
            energy_tank__capacity=capacity,
            max_position_error=0.2,
            chunk__max_translational_stiffness=3000.0,
            chunk__max_rotational_stiffness=500.0,
        )
        assert hold(plant, np.array([soft] * 40), 40) is R.NONE
        plant.run(0.4)
        plant.wrench[:3] = [0.0, 5.0, 0.0]
        plant.run(1.2)
        stretched = float(np.linalg.norm(deflection(plant)[:3]))
        # Held by hand while it stiffens: the push grows with the spring, so that nothing moves.
        assert hold(plant, np.array([40.0 * soft] * 40), 40) is R.NONE
        q, dq = plant.q.copy(), np.zeros(7)
        for _ in range(400):
            plant.q, plant.dq = q.copy(), dq.copy()
            plant.step()
        plant.q, plant.dq = q, dq
        plant.wrench[:] = 0.0
        energies = []
        for _ in range(400):
            plant.step()
            energies.append(plant.kinetic_energy)
        assert stretched > 0.05
        return max(energies), stretched

    free, stretched = peak_energy(0.0)
    assert free > 0.5 * 60.0 * stretched**2  # more than had been put into the soft spring
    bound = 0.2
    assert free > 2.0 * bound
    kept, _ = peak_energy(bound)
    assert kept <= 1.05 * bound
