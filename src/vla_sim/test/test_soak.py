# SPDX-License-Identifier: Apache-2.0
"""A short soak breaks nothing on either arm, and every check of it would see what it watches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vla_sim import robots
from vla_sim.control_bench import soak, table
from vla_sim.control_bench.soak import Soak

PANDA = robots.get("panda")
HOME = table.home_pose(PANDA)[:3, 3]


@pytest.mark.parametrize("name", ["panda", "ur5e"])
def test_a_short_soak_breaks_nothing(name: str) -> None:
    run = Soak(robots.get(name), seed=1)
    run.run(20.0)
    assert run.violations == 0, run.audit.failures
    seen = run.figures()
    assert seen["soak_cycles"] == round(20.0 * run.rig.robot.arm.drives.control_rate)
    # It has done something: moved, failed, recovered.
    assert run.accepted > 20
    assert run.rejected > 20
    assert seen["soak_faults"] >= 2
    assert seen["soak_tracking_share"] > 0.15
    assert seen["soak_kinetic_energy_j"] > 1.0
    assert seen["soak_torque_rate_over_limit_ratio"] == pytest.approx(1.0)


def test_the_same_seed_is_the_same_soak() -> None:
    figures = []
    for seed in (3, 3, 4):
        run = Soak(PANDA, seed)
        run.run(3.0)
        figures.append(run.figures())
    assert figures[0] == figures[1]
    assert figures[0] != figures[2]


@pytest.mark.parametrize(
    ("check", "tightened", "changes"),
    [
        ("torque", {"torque": [10.0] * 7}, {"torque_limit": PANDA.arm.limits.torque.tolist()}),
        ("torque_rate", {}, {"torque_rate_limit": [1500.0] * 7}),
        ("torque_rate", {}, {"braking_torque_rate_limit": [20000.0] * 7}),
        ("wrench", {}, {"wrench_limits__force": 90.0}),
        ("energy", {"energy": 0.5}, {}),
        ("rest", {"rest_s": 0.2}, {}),
        ("workspace", {"workspace_max": (HOME + 0.03).tolist()}, {"workspace_max": [2.0] * 3}),
    ],
)
def test_a_broken_limit_is_found(
    check: str,
    tightened: dict[str, Any],
    changes: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The positive controls: the controller is configured beyond what the audit allows."""
    true_limits = soak.limits_of

    def limits_of(*arguments: Any) -> Any:
        limits = true_limits(*arguments)
        for name, value in tightened.items():
            setattr(limits, name, value)
        return limits

    monkeypatch.setattr(soak, "limits_of", limits_of)
    run = Soak(PANDA, seed=1, **changes)
    for _ in range(12):
        run.run(5.0)
        if run.audit.failures[check][0] > 0:
            return
    pytest.fail(f"60 s with {tightened} {changes} did not trip {check!r}: {run.figures()}")


def test_illegal_phases_and_an_ignored_stop_are_found() -> None:
    run = Soak(PANDA, seed=1)
    run.run(0.2)
    run.controller.stop()
    run.loop.advance(20)
    assert run.audit.failures["phase"][0] == 0
    run.controller.reset()  # not by way of the audit: nobody is known to have asked
    run.loop.advance(20)
    assert run.audit.failures["phase"][0] == 1
    run.audit.stop()
    run.controller.deactivate()
    run.loop.advance(1)
    assert run.audit.failures["phase"][0] >= 2
    assert np.isfinite(run.audit.failures["phase"][1])
