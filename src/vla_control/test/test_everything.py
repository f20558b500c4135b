# SPDX-License-Identifier: Apache-2.0
"""All pieces at once: stable with a cycle of delay, and never beyond a limit whatever comes."""

from __future__ import annotations

import numpy as np
import pytest
from arm import Plant, glide, make_config, moved

import vla_control as vc
from vla_control import RejectReason as R

EVERYTHING = {
    "friction__coulomb": [0.2] * 7,
    "friction__viscous": [0.5] * 7,
    "rotor_inertia": [0.1] * 7,
    "jacobian_rate_feed_forward": True,
    "payload": vc.Payload(0.4, [0.0, 0.02, 0.05], 4e-4 * np.eye(3)),
    "integral__gain": 3.0,
    "stiffness_frame": vc.StiffnessFrame.TOOL,
    "wrench_limits__force": 60.0,
    "wrench_limits__torque": 10.0,
    "barrier__joint_braking": 10.0,
    "barrier__workspace_braking": 5.0,
    "energy_tank__capacity": 5.0,
    "energy_tank__refill_power": 2.0,
    "force__axes": [False, False, True, False, False, False],
}


class Delayed:
    """A controller whose torques act a cycle late."""

    def __init__(self, controller: vc.Controller) -> None:
        self.controller = controller
        self.late: np.ndarray | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self.controller, name)

    def update(self, *arguments: object) -> np.ndarray:
        now = self.controller.update(*arguments)  # type: ignore[arg-type]
        out, self.late = (now if self.late is None else self.late), now
        return out


@pytest.mark.parametrize("law", list(vc.TaskLawKind))
@pytest.mark.parametrize("rate", [250.0, 500.0, 1000.0])
def test_everything_is_stable_at_every_rate_with_a_cycle_of_delay(
    rate: float, law: vc.TaskLawKind
) -> None:
    plant = Plant(
        config=make_config(rate=rate, task_law=law, **EVERYTHING),
        rate=rate,
        substeps=round(2000 / rate),
        armature=0.1,
        load=(0.4, (0.0, 0.02, 0.05)),
    )
    plant.controller = Delayed(plant.controller)  # type: ignore[assignment]
    assert plant.push(glide(plant.pose, [0.1, 0.05, -0.05])) is R.NONE
    plant.run(3.0)  # the integral takes its time
    assert np.abs(plant.dq).max() < 1e-2
    plant.controller.stop()
    plant.run(1.0)
    plant.dq = plant.dq + 0.05
    plant.run(1.0)
    assert np.abs(plant.dq).max() < 1e-3


def test_no_command_is_beyond_a_limit_whatever_comes() -> None:
    rng = np.random.default_rng(11)
    plant = Plant(config=make_config(**EVERYTHING), armature=0.1)
    limits = np.array([87.0] * 4 + [12.0] * 3)
    start = plant.pose
    previous = plant.controller.state().tau_command
    accepted = 0
    for i in range(2500):
        if i % 60 == 0:
            aim = moved(start, rng.uniform(-0.08, 0.08, 3), rng.uniform(-0.2, 0.2, 3))
            reference = plant.controller.state().reference_pose_tool_in_base
            poses = glide(reference, aim[:3, 3] - reference[:3, 3])
            wrenches = rng.uniform(-20, 20, (16, 6)) if rng.random() < 0.5 else None
            accepted += plant.push(poses, wrenches=wrenches) is R.NONE
        if i % 90 == 0:
            diagonal = np.concatenate([rng.uniform(50, 3000, 3), rng.uniform(5, 100, 3)])
            plant.controller.set_gains(vc.TaskGains(np.diag(diagonal), rng.uniform(0.3, 2.0)))
        if i % 170 == 0:
            plant.controller.set_payload(vc.Payload(rng.uniform(0, 2), rng.uniform(-0.1, 0.1, 3)))
        if i % 230 == 0:
            plant.wrench = rng.uniform(-1, 1, 6) * [40, 40, 40, 4, 4, 4]
        if i % 400 == 399:
            plant.controller.tare()
        if i % 700 == 699:
            plant.controller.stop()
        if i % 700 == 100:
            plant.controller.reset()
        bad = np.full(7, np.nan) if rng.random() < 0.01 else None
        tau = plant.step(bad)
        assert np.isfinite(tau).all()
        assert (np.abs(tau) <= limits).all()
        assert (np.abs(tau - previous) <= 10.0 + 1e-9).all()  # the hardware's own rate, 1e4 Nm/s
        previous = tau
    assert accepted > 10
    assert plant.controller.state().cycles == 2500
