# SPDX-License-Identifier: Apache-2.0
"""Force tracking along chosen axes: approach, wiping, release, bad wrenches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arm import JOINT_IMPEDANCE, Plant, glide, make_config

import vla_control as vc
from vla_control import RejectReason as R

ALONG_Z = {"force__axes": [False, False, True, False, False, False]}
MODEL = {
    "friction__coulomb": [0.2] * 7,
    "friction__viscous": [0.5] * 7,
    "rotor_inertia": [0.1] * 7,
}


class Table:
    """A stiff, smooth floor a little under the tool, which pushes it each cycle."""

    def __init__(self, plant: Plant, below: float) -> None:
        self.plant = plant
        self.height = plant.pose[2, 3] - below

    def run(self, seconds: float) -> tuple[np.ndarray, list[vc.ControllerState]]:
        """(force on the floor in N, state) of every cycle."""
        forces, states = [], []
        for _ in range(round(seconds * 1000)):
            depth = self.height - self.plant.pose[2, 3]
            speed = (self.plant.kinematics.jacobian(self.plant.q) @ self.plant.dq)[2]
            force = max(0.0, 1e4 * depth - 100.0 * speed) if depth > 0.0 else 0.0
            self.plant.wrench[2] = force
            self.plant.step()
            forces.append(force)
            states.append(self.plant.controller.state())
        return np.array(forces), states


def press(newtons: float, steps: int = 16) -> np.ndarray:
    return np.tile([0.0, 0.0, -newtons, 0.0, 0.0, 0.0], (steps, 1))


@pytest.mark.parametrize("law", [{}, JOINT_IMPEDANCE], ids=["impedance", "joint impedance"])
def test_wiping_holds_its_force(law: dict[str, Any]) -> None:
    config = make_config(**ALONG_Z, **MODEL, **law)
    plant = Plant(friction=(0.2, 0.5), armature=0.1, substeps=2, config=config)
    table = Table(plant, 0.005)
    forces: list[float] = []
    whole = glide(plant.pose, [0.08, 0.08, 0.0], steps=49)
    for k in range(5):
        poses = np.array([whole[min(8 * k + i, 48)] for i in range(16)])
        assert plant.push(poses, wrenches=press(10.0)) is R.NONE
        forces += list(table.run(0.4)[0])
    settled = np.array(forces)[800:]
    assert np.sqrt(((settled - 10.0) ** 2).mean()) < 1.0
    error = (plant.controller.state().reference_pose_tool_in_base - plant.pose)[:3, 3]
    aside = np.zeros(2)
    if law:
        # What gives way downwards are the joints: the tool goes aside as their springs let it.
        jacobian = plant.kinematics.jacobian(plant.q)[:3]
        compliance = jacobian / np.array(law["joint_stiffness"]) @ jacobian.T
        aside = error[2] * compliance[:2, 2] / compliance[2, 2]
    # Along the others it still tracks the pose.
    np.testing.assert_allclose(error[:2], aside, atol=2e-3)


@pytest.mark.parametrize("law", [{}, JOINT_IMPEDANCE], ids=["impedance", "joint impedance"])
def test_without_wrenches_it_is_the_spring_that_presses(law: dict[str, Any]) -> None:
    """The positive control: the same path with the spring alone presses with K times the depth."""
    plant = Plant(substeps=2, config=make_config(**ALONG_Z, **law))
    table = Table(plant, 0.005)
    assert plant.push(glide(plant.pose, [0.05, 0.0, -0.015])) is R.NONE
    forces, _ = table.run(1.6)
    stiffness = 600.0
    if law:
        lever = plant.kinematics.jacobian(plant.q)[2]
        stiffness = 1.0 / float(lever @ (lever / np.array(law["joint_stiffness"])))
    assert forces[-1] == pytest.approx(stiffness * 0.010, rel=0.1)
    assert abs(forces[-1] - 10.0) > 2.0


def test_in_free_space_the_tool_approaches_slowly() -> None:
    plant = Plant(config=make_config(**ALONG_Z))
    start = plant.pose
    assert plant.push(glide(start, [0.0, 0.0, 0.0]), wrenches=press(10.0)) is R.NONE
    states = plant.run(0.7)
    speeds = [-s.twist_tool_in_base[2] for s in states]
    assert 0.02 < max(speeds) < 0.3
    assert np.abs(np.diff([s.tau_command for s in states], axis=0)).max() < 0.5


def test_a_chunk_that_has_run_out_asks_for_no_force() -> None:
    plant = Plant(substeps=2, config=make_config(**ALONG_Z))
    table = Table(plant, 0.002)
    assert plant.push(glide(plant.pose, [0.0, 0.0, 0.0]), wrenches=press(12.0)) is R.NONE
    forces, _ = table.run(0.75)
    assert forces[-50:].mean() == pytest.approx(12.0, abs=1.0)
    _, states = table.run(0.8)
    assert states[-1].phase is vc.Phase.HOLDING
    assert table.run(0.3)[0].max() < 0.2  # the spring has lifted it to the reference again
    torques = np.array([s.tau_command for s in states])
    assert np.abs(np.diff(torques, axis=0)).max() < 0.5


@pytest.mark.parametrize("action", ["stop", "revoke"])
def test_stop_and_revoke_end_the_force(action: str) -> None:
    plant = Plant(config=make_config(**ALONG_Z))
    assert plant.push(glide(plant.pose, [0.0, 0.0, 0.0]), wrenches=press(10.0)) is R.NONE
    plant.run(0.3)
    getattr(plant.controller, action)()
    plant.run(1.2)
    assert np.abs(plant.dq).max() < 0.02


def test_bad_wrenches_are_rejected() -> None:
    plant = Plant(config=make_config(**ALONG_Z))
    poses = glide(plant.pose, [0.0, 0.0, 0.0])
    plant.run(0.01)
    assert plant.push(poses, wrenches=press(5.0, 15)) is R.BAD_SHAPE
    assert plant.push(poses, wrenches=press(float("nan"))) is R.NOT_FINITE
    assert plant.push(poses, wrenches=press(5.0)) is R.NONE
    without = Plant()
    without.run(0.01)
    assert without.push(poses, wrenches=press(5.0)) is R.UNSUPPORTED_MODE


@pytest.mark.parametrize(("asked", "clamped"), [(500.0, True), (8.0, False)])
def test_commands_beyond_the_largest_force_are_clamped_and_reported(
    asked: float, clamped: bool
) -> None:
    plant = Plant(substeps=2, config=make_config(force__max_force=8.0, **ALONG_Z))
    table = Table(plant, 0.002)
    wrenches = press(asked)
    wrenches[:, 0] = 100.0  # an axis that is not chosen: nobody gives it, nobody takes from it
    assert plant.push(glide(plant.pose, [0.0, 0.0, 0.0]), wrenches=wrenches) is R.NONE
    forces, states = table.run(0.75)
    assert forces[-50:].mean() == pytest.approx(8.0, abs=0.8)
    assert any(s.wrench_saturated for s in states) is clamped
    assert plant.push(glide(plant.pose, [0.0, 0.0, 0.0]), wrenches=press(5.0)) is R.NONE
    assert not any(s.wrench_saturated for s in table.run(0.2)[1][1:])
