# SPDX-License-Identifier: Apache-2.0
"""An arm that is told positions follows chunks in MuJoCo; what it does at a wall."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

import vla_control
from vla_control import Fault, Phase
from vla_sim import experts, robots
from vla_sim._core import PositionDrives
from vla_sim.control_bench import curves, exercises, measures, runs, table
from vla_sim.control_bench.hardware import Hardware, Rig
from vla_sim.control_bench.measures import Record
from vla_sim.control_bench.tracking import Tracking
from vla_sim.position_drives import FREQUENCY
from vla_sim.simulation import Simulation

UR5 = robots.get("ur5")
HOME = table.home_pose(UR5)
RATE = 1000.0  # of the drives' own loop, Hz
DRIVES = UR5.arm.drives
HARDWARE = Hardware(DRIVES.coulomb_friction, DRIVES.viscous_friction, DRIVES.rotor_inertia)
ABOVE = 0.05


def rig_of(**changes: object) -> Rig:
    return Rig(UR5, dataclasses.replace(HARDWARE, **changes), RATE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "known", "fault"),
    [
        ("ur5", True, Fault.NONE),
        ("ur10", True, Fault.NONE),
        ("ur10", False, Fault.TRACKING_DEVIATION),  # the control
    ],
)
def test_free_motion_is_no_deviation_with_drives_that_know_their_rotors(
    name: str, known: bool, fault: Fault
) -> None:
    robot = robots.get(name)
    rig = Rig(robot, table.hardware_of(robot), RATE)
    subject = Tracking(rig, **({} if known else {"rotor_inertia": [0.0] * 6}))
    home = table.home_pose(robot)
    exercise = exercises.Figure8(laps=0.5)
    record = exercise.run(rig, subject, home, 0)
    assert subject.controller.state().fault is fault
    assert (record.rejected == 0) == (fault is Fault.NONE)


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


def seconds_above(record: Record, force: float) -> float:
    """For how long the wall is pressed with more than that, as a mean over 10 ms."""
    width = round(0.01 / record.period)
    mean = np.convolve(record.columns["force"][:, 2], np.full(width, 1.0 / width), mode="valid")
    return float(np.sum(mean > force)) * record.period


def test_without_a_sensor_a_wall_is_a_tracking_deviation() -> None:
    rig = rig_of(wall_below=ABOVE)
    subject = Tracking(rig)
    record = approach(rig, subject)
    state = subject.controller.state()
    assert (state.phase, state.fault) == (Phase.FAULT, Fault.TRACKING_DEVIATION)
    assert not state.compliant
    force = record.columns["force"][:, 2]
    assert force.max() > 100.0  # nothing yields until then
    assert force[-200:].max() < 5.0  # and then it no longer presses
    assert seconds_above(record, 100.0) < 0.1
    assert seconds_above(record, 200.0) == 0.0
    # The controls: where more deviation is allowed it presses longer and harder, and where there is
    # nothing, the same move is followed to its end.
    subject = Tracking(rig, tracking__max_deviation=[0.05] * 6)
    assert seconds_above(approach(rig, subject), 200.0) > 0.2
    rig = rig_of()
    subject = Tracking(rig)
    record = approach(rig, subject)
    assert subject.controller.state().fault is Fault.NONE
    assert HOME[2, 3] - record.position[-1, 2] == pytest.approx(ABOVE + 0.03, abs=1e-3)


def test_with_a_sensor_it_presses_with_stiffness_times_depth() -> None:
    rig = rig_of(wall_below=ABOVE, force_sensor=True)
    subject = Tracking(rig, runs.Gains(translational=400.0))
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


@pytest.mark.parametrize("name", robots.names())
def test_a_simulated_arm_gets_what_its_drives_take(
    make_sim: Callable[..., Simulation], name: str
) -> None:
    sim = make_sim(name, "touch", 3)
    positions = robots.get(name).arm.drives.command == "position"
    assert positions == (name == "ur5")  # the control: the others are told torques
    expert = experts.make_expert(sim)
    for _ in range(3):
        assert sim.push_chunk(expert.act(sim)) is vla_control.RejectReason.NONE
        sim.advance(0.3)
    state = sim.controller.state()
    assert state.phase is Phase.TRACKING
    assert np.linalg.norm(state.reference_twist_tool_in_base[:3]) > 0.02
    assert state.compliant == (not positions)
    if positions:
        # The command is where the reference is, and the controller has no torque to tell.
        tool = vla_control.RobotModel(UR5.description()).forward_kinematics(state.q_command)
        off = np.linalg.norm((tool - state.reference_pose_tool_in_base)[:3, 3])
        assert off < 2e-3 + 0.008 * np.linalg.norm(state.reference_twist_tool_in_base[:3])
        np.testing.assert_array_equal(state.tau_command, np.zeros(6))
        assert sim.controller.config.rate == UR5.arm.drives.control_rate
    else:
        assert np.abs(state.tau_command).max() > 0.1


def test_an_arm_that_is_told_positions_does_not_give_way(
    make_sim: Callable[..., Simulation],
) -> None:
    given_way = {}
    for name in ("ur5", "ur5e"):
        sim = make_sim(name, "touch", 3)
        sim.advance(0.2)
        start = sim.observe_pose()[:3, 3]
        hand = sim.model.body(sim.robot.tool_frame).id
        sim.data.xfrc_applied[hand, :3] = [15.0, 0.0, 0.0]
        sim.advance(0.5)
        given_way[name] = np.linalg.norm(sim.observe_pose()[:3, 3] - start)
        sim.data.xfrc_applied[hand] = 0.0
    assert given_way["ur5"] < 2e-3
    assert given_way["ur5e"] > 8e-3  # 15 N on 1000 N/m
