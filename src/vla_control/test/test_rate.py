# SPDX-License-Identifier: Apache-2.0
"""Whatever the control rate, no law asks for a stiffness or a damping that it makes unstable."""

from __future__ import annotations

import numpy as np
import pytest
from arm import HOME, Plant, glide, make_config, make_description
from numpy.typing import NDArray
from test_everything import Delayed

import vla_control as vc
from vla_control import RejectReason as R

Floats = NDArray[np.float64]
RATES = [200.0, 250.0, 500.0, 1000.0]
STIFF = np.diag([2000.0] * 3 + [100.0] * 3)


def light_wrist() -> vc.RobotDescription:
    """The arm with a last link of a tenth of the inertia, as one without a hand has it."""
    description = make_description()
    begin = description.urdf_xml.index('<link name="link7">')
    end = description.urdf_xml.index("</inertial>", begin)
    link = description.urdf_xml[begin:end]
    for name in ("ixx", "iyy", "izz", "ixz"):
        at = link.index(f'{name}="') + len(name) + 2
        close = link.index('"', at)
        link = link[:at] + repr(0.1 * float(link[at:close])) + link[close:]
    description.urdf_xml = description.urdf_xml[:begin] + link + description.urdf_xml[end:]
    return description


def spectral_radius(
    jacobian: Floats, mass: Floats, stiffness: Floats, damping: Floats, rate: float
) -> float:
    """Of the arm's linear motion under the impedance law with a cycle of delay."""
    n, T = len(mass), 1.0 / rate
    inverse = np.linalg.inv(mass)
    plant = np.block([[np.eye(n), T * np.eye(n)], [np.zeros((n, n)), np.eye(n)]])
    entry = np.vstack([T * T / 2 * inverse, T * inverse])
    law = -jacobian.T @ np.hstack([stiffness @ jacobian, damping @ jacobian])
    return float(
        np.abs(np.linalg.eigvals(np.block([[plant, entry], [law, np.zeros((n, n))]]))).max()
    )


@pytest.mark.parametrize("ratio", [0.3, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("rate", RATES)
def test_the_designed_damping_is_stable_with_a_cycle_of_delay(rate: float, ratio: float) -> None:
    model = vc.RobotModel(light_wrist())
    jacobian, mass = model.jacobian(HOME), model.mass_matrix(HOME)
    _, damping, stiffness = vc.operational_space(jacobian, mass, STIFF, ratio, rate=rate)
    # The redundant motion has neither here: one eigenvalue of 1 stays, twice.
    assert spectral_radius(jacobian, mass, stiffness, damping, rate) < 1.0 + 1e-6
    _, unbounded, _ = vc.operational_space(jacobian, mass, STIFF, ratio, rate=1e6)
    if rate == 200.0:
        assert spectral_radius(jacobian, mass, STIFF, unbounded, rate) > 1.05


def test_what_the_rate_can_damp_is_left_as_it_is() -> None:
    model = vc.RobotModel(make_description())
    arguments = model.jacobian(HOME), model.mass_matrix(HOME), np.diag([600.0] * 3 + [30.0] * 3)
    _, damping, stiffness = vc.operational_space(*arguments, rate=1000.0)
    _, expected, _ = vc.operational_space(*arguments, rate=1e6)
    np.testing.assert_array_equal(stiffness, arguments[2])
    np.testing.assert_array_equal(damping, expected)


@pytest.mark.parametrize("law", list(vc.TaskLawKind))
@pytest.mark.parametrize("rate", RATES)
def test_an_arm_with_a_light_wrist_is_stable(rate: float, law: vc.TaskLawKind) -> None:
    plant = Plant(
        description=light_wrist(),
        config=make_config(rate=rate, task_law=law),
        rate=rate,
        substeps=round(4000 / rate),
    )
    plant.controller = Delayed(plant.controller)  # type: ignore[assignment]
    assert plant.push(glide(plant.pose, [0.08, 0.05, -0.05])) is R.NONE
    plant.run(1.2)
    plant.wrench[:] = [5.0, 3.0, -4.0, 0.2, -0.3, 0.2]
    plant.run(0.5)
    plant.wrench[:] = 0.0
    states = plant.run(1.8)
    assert np.abs(plant.dq).max() < 0.01
    assert not any(s.torque_saturated for s in states)


def test_a_stiffness_beyond_the_rate_is_reported() -> None:
    for rate, limited in ((200.0, True), (1000.0, False)):
        plant = Plant(
            description=light_wrist(),
            config=make_config(rate=rate),
            rate=rate,
            substeps=round(4000 / rate),
        )
        plant.step()
        assert plant.controller.state().stiffness_limited is limited


def test_frequencies_beyond_the_rate_are_refused() -> None:
    law = {"task_law": vc.TaskLawKind.OPERATIONAL_SPACE, "translational_frequency": 80.0}
    Plant(config=make_config(rate=1000.0, **law))
    with pytest.raises(ValueError, match=r"translational_frequency = 80 is outside \[1, 70\]"):
        Plant(config=make_config(rate=200.0, **law))
