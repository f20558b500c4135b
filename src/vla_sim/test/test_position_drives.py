# SPDX-License-Identifier: Apache-2.0
"""An arm that is told positions follows chunks in MuJoCo; what it does at a wall."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import vla_control
from vla_control import Fault, Phase
from vla_sim import robots
from vla_sim._core import PositionDrives
from vla_sim.control_bench import curves, measures, runs, table
from vla_sim.control_bench.hardware import Hardware, Rig
from vla_sim.control_bench.measures import Record
from vla_sim.control_bench.tracking import FREQUENCY, Tracking

UR5 = robots.get("ur5")
HOME = table.home_pose(UR5)
RATE = 1000.0  # of the drives' own loop, Hz
DRIVES = UR5.arm.drives
HARDWARE = Hardware(DRIVES.coulomb_friction, DRIVES.viscous_friction, DRIVES.rotor_inertia)
ABOVE = 0.05


def rig_of(**changes: object) -> Rig:
    return Rig(UR5, dataclasses.replace(HARDWARE, **changes), RATE)  # type: ignore[arg-type]


def test_the_figure_of_eight_with_the_drives_lag_and_no_more() -> None:
    rig = rig_of()
    subject = Tracking(rig)
    curve = curves.figure8(HOME)
    record = runs.run(rig, subject, curve, runs.Feed())
    assert record.rejected == 0
    assert subject.controller.state().fault is Fault.NONE
    found = measures.tracking(record, curve)
    # Half a cycle of interpolation, one cycle to the command's end, the drives' own ramp error is
    # taken out by their velocity feed-forward.
    assert 0.0 < found.lag_ms < 15.0
    state = subject.controller.state()
    tool = vla_control.RobotModel(UR5.description()).forward_kinematics(state.q_command)
    assert np.linalg.norm((tool - state.reference_pose_tool_in_base)[:3, 3]) < 1e-4


def approach(rig: Rig, subject: Tracking, speed: float = 0.1, total: float = 3.0) -> Record:
    """Down to 30 mm beyond the wall, if there is one."""
    down = np.array([0.0, 0.0, -1.0])
    curve = curves.approach(HOME, down, speed, ABOVE + 0.03, total)
    feed = runs.Feed(period=None, latency=0.0, steps=40)
    record = runs.run(rig, subject, curve, feed)
    assert record.rejected == 0
    return record


def test_without_a_sensor_a_wall_is_a_tracking_deviation() -> None:
    rig = rig_of(wall_below=ABOVE)
    subject = Tracking(rig, tracking__max_deviation=[0.02] * 6)
    record = approach(rig, subject)
    state = subject.controller.state()
    assert (state.phase, state.fault) == (Phase.FAULT, Fault.TRACKING_DEVIATION)
    assert not state.compliant
    force = record.columns["force"][:, 2]
    assert force.max() > 100.0  # nothing yields until then
    assert force[-200:].max() < 5.0  # and then it no longer presses
    # The control: where there is nothing, the same move is followed to its end.
    rig = rig_of()
    subject = Tracking(rig, tracking__max_deviation=[0.02] * 6)
    record = approach(rig, subject)
    assert subject.controller.state().fault is Fault.NONE
    assert HOME[2, 3] - record.position[-1, 2] == pytest.approx(ABOVE + 0.03, abs=1e-3)


def test_with_a_sensor_it_presses_with_stiffness_times_depth() -> None:
    rig = rig_of(wall_below=ABOVE, force_sensor=True)
    subject = Tracking(
        rig,
        runs.Gains(translational=400.0),
        admittance__contact_stiffness=20000.0,
        admittance__mass=12.0,
        admittance__max_force=300.0,
    )
    record = approach(rig, subject, total=8.0)
    state = subject.controller.state()
    assert state.fault is Fault.NONE
    assert state.compliant
    assert state.in_contact
    force = record.columns["force"][-200:, 2]
    depth = record.position[-1, 2] - record.columns["reference_position"][-1, 2]
    assert depth == pytest.approx(0.03, abs=2e-3)
    assert force.mean() == pytest.approx(400.0 * depth, abs=1.0)
    assert np.ptp(force) < 1.0


def test_drives_that_take_torques_are_refused() -> None:
    controller = vla_control.Controller(UR5.description(), UR5.controller_config())
    with pytest.raises(ValueError, match="motion output"):
        PositionDrives(controller, FREQUENCY, 8, False)
