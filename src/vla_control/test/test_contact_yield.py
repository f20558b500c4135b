# SPDX-License-Identifier: Apache-2.0
"""A moving reference does not add to the spring's force on what holds the tool up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arm import HOME, JOINT_IMPEDANCE, Plant, glide, make_config

WALL = 3e4  # N/m
DEPTH = 0.04  # m, of the reference below the wall


LAWS: list[dict[str, Any]] = [{}, JOINT_IMPEDANCE]


def press(**changes: Any) -> np.ndarray:
    """Forces of a wall 60 mm below the tool (N) while the reference goes through it at 0.2 m/s."""
    config = make_config(
        translational_stiffness=[400.0] * 3,
        friction__coulomb=[0.0] * 7,
        max_linear_acceleration=10.0,
        **changes,
    )
    plant = Plant(config=config, substeps=4)
    floor = plant.pose[2, 3] - 0.06
    depth = 0.06 + DEPTH
    start = plant.pose
    steps = 1 + round(depth / 0.2 / 0.05)
    assert plant.push(glide(start, [0.0, 0.0, -depth], steps=steps, ramp=False)).name == "NONE"
    forces = []
    for _ in range(2500):
        below = floor - plant.pose[2, 3]
        plant.wrench[2] = (
            max(0.0, WALL * below - 200.0 * (plant.kinematics.jacobian(plant.q) @ plant.dq)[2])
            if below > 0.0
            else 0.0
        )
        plant.step()
        forces.append(plant.wrench[2])
    return np.array(forces)


def late_over_steady(forces: np.ndarray) -> float:
    """Largest force later than 100 ms after the first touch, over the one at rest."""
    touched = int(np.flatnonzero(forces)[0])
    return float(forces[touched + 100 :].max() / forces[-200:].mean())


@pytest.mark.parametrize("law", LAWS, ids=["impedance", "joint impedance"])
def test_only_the_spring_presses(law: dict[str, Any]) -> None:
    assert late_over_steady(press(sensing__yield_s=0.0, **law)) > 1.35  # the control
    assert late_over_steady(press(**law)) < 1.2


@pytest.mark.parametrize("law", LAWS, ids=["impedance", "joint impedance"])
def test_the_force_at_rest_is_the_springs(law: dict[str, Any]) -> None:
    steady = float(press(**law)[-200:].mean())
    stiffness = 400.0
    if law:
        # Of the joints' springs, with the tool free to move along the wall.
        lever = Plant().kinematics.jacobian(HOME)[2]
        stiffness = 1.0 / float(lever @ (lever / np.array(law["joint_stiffness"])))
    assert steady == pytest.approx(stiffness * DEPTH, rel=0.1)


def test_what_is_carried_along_is_no_obstacle() -> None:
    def lag(**changes: object) -> float:
        plant = Plant(config=make_config(**changes), load=(1.5, (0.0, 0.0, 0.05)))
        plant.run(0.5)
        assert plant.controller.state().in_contact  # its weight is unknown
        assert plant.push(glide(plant.pose, [0.0, 0.0, 0.15])).name == "NONE"
        states = plant.run(0.8)
        return max(
            float((s.reference_pose_tool_in_base - s.pose_tool_in_base)[2, 3]) for s in states
        )

    assert abs(lag() - lag(sensing__yield_s=0.0)) < 0.004
