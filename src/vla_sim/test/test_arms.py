# SPDX-License-Identifier: Apache-2.0
"""Adding an arm takes a URDF and a YAML and no code; a wrong field is named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

import vla_control
from vla_sim import arms, robots
from vla_sim.control_bench import curves, measures, runs, table
from vla_sim.control_bench.hardware import Hardware, Rig

# The arm of docs/adding_an_arm.md: six joints, turning about z, y, y, z, y, z.
_AXES = ["0 0 1", "0 1 0", "0 1 0", "0 0 1", "0 1 0", "0 0 1"]
_LENGTHS = [0.3, 0.3, 0.15, 0.15, 0.1, 0.08]


def made_urdf() -> str:
    links = ['<robot name="stick"><link name="foot"/>']
    parent, height = "foot", 0.1
    for i, (axis, length) in enumerate(zip(_AXES, _LENGTHS, strict=True), start=1):
        mass = 3.0 / i
        links.append(
            f'<link name="part{i}"><inertial><origin xyz="0 0 {length / 2}"/><mass value="{mass}"/>'
            f'<inertia ixx="{0.01 * mass}" iyy="{0.01 * mass}" izz="{0.004 * mass}" ixy="0" '
            f'ixz="0" iyz="0"/></inertial></link><joint name="turn{i}" type="revolute">'
            f'<parent link="{parent}"/><child link="part{i}"/><origin xyz="0 0 {height}"/>'
            f'<axis xyz="{axis}"/><limit lower="-3" upper="3" velocity="3" effort="80"/></joint>'
        )
        parent, height = f"part{i}", length
    return "".join([*links, "</robot>"])


def made_description() -> dict[str, object]:
    gripper = yaml.safe_load((arms.folder() / "ur5e.yaml").read_text())["gripper"]
    gripper["urdf"]["file"] = str(arms.folder().parent / "urdf" / "box_gripper.urdf")
    gripper["mount"].update(parent="part6", xyz=[0.0, 0.0, _LENGTHS[-1]])
    return {
        "title": "A stick with six joints",
        "urdf": {"file": "stick.urdf"},
        "base_frame": "foot",
        "tool_frame": "gripper_tcp",
        "joints": {
            "names": [f"turn{i}" for i in range(1, 7)],
            "home": [0.0, 0.6, 1.4, 0.0, 1.1415927, 0.0],
        },
        "limits": {
            "source": "made up",
            "velocity": 3.0,
            "acceleration": None,
            "jerk": None,
            "torque": 80.0,
            "torque_rate": 1000.0,
        },
        "drives": {
            "command": "effort",
            "control_rate": 500.0,
            "command_includes_gravity": False,
            "effort_state": "none",
            "friction": {"coulomb": 0.1, "viscous": 0.2, "source": "made up"},
            "rotor_inertia": {"values": 0.05, "source": "made up"},
        },
        "gripper": gripper,
    }


def written(folder: Path, description: dict[str, object]) -> Path:
    (folder / "stick.urdf").write_text(made_urdf())
    path = folder / "stick.yaml"
    path.write_text(yaml.safe_dump(description))
    return path


def test_a_new_arm_is_loaded_controlled_and_tracks_a_chunk(tmp_path: Path) -> None:
    robot = robots.get(str(written(tmp_path, made_description())))
    assert robot.name == "stick"
    drives = robot.arm.drives
    hardware = Hardware(drives.coulomb_friction, drives.viscous_friction, drives.rotor_inertia)
    rig = Rig(robot, hardware, drives.control_rate)
    start = vla_control.RobotModel(robot.description()).forward_kinematics(robot.home_q)
    curve = curves.point_to_point(start, np.array([0.05, 0.10, -0.03]), travel=0.8, total=1.6)
    subject = runs.ours(rig, drives.control_rate, runs.Gains())
    record = runs.run(rig, subject, curve, runs.Feed(period=None, latency=0.0, steps=20))
    assert record.rejected == 0
    error = measures.position_error(record, curve)
    assert error[-1] < 0.004
    # It has moved, and the measure would have seen it if it had not.
    standing = curves.point_to_point(start, np.zeros(3), travel=0.8, total=1.6)
    assert measures.position_error(record, standing)[-1] > 0.1


@pytest.mark.parametrize("name", arms.names())
def test_every_arm_holds_itself_and_points_down(name: str) -> None:
    robot = robots.get(name)
    model = vla_control.RobotModel(robot.description())
    n = len(robot.joint_names)
    np.testing.assert_allclose(
        model.forward_kinematics(robot.home_q)[:3, 2], [0.0, 0.0, -1.0], atol=1e-3
    )
    assert np.all(robot.home_q > model.position_lower)
    assert np.all(robot.home_q < model.position_upper)
    np.testing.assert_array_less(robot.arm.limits.velocity, model.velocity_limit * 1.03)
    np.testing.assert_allclose(robot.arm.limits.torque, model.effort_limit)
    assert np.linalg.eigvalsh(model.mass_matrix(robot.home_q)).min() > 0.0
    rig = Rig(robot, Hardware(np.full(n, 0.1), np.full(n, 0.1), np.full(n, 0.1)), 500.0)
    move = curves.point_to_point(
        model.forward_kinematics(robot.home_q), np.array([0.02, 0.05, -0.03]), travel=0.8, total=1.0
    )
    feed = runs.Feed(period=None, latency=0.0, steps=20)
    record = runs.run(rig, table.ours(rig, 500.0, runs.Gains()), move, feed)
    assert record.rejected == 0
    assert measures.position_error(record, move).max() < 2e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "unknown colour"),
        ({"tool_frame": "elbow"}, "no link 'elbow'; valid: .*gripper_tcp"),
        ({"base_frame": None}, "base_frame is missing"),
        ({"joints": {"names": ["turn1"], "home": [0.0, 1.0]}}, "home must have 1 numbers, not 2"),
        ({"joints": {"names": ["turn9"], "home": [0.0]}}, "no joint 'turn9'; valid: .*turn1"),
        ({"drives": {"command": "thought"}}, "valid: effort, position"),
        ({"drives": {"friction": {"coulomb": -0.1}}}, "coulomb is -0.1; valid: .*at least 0"),
        ({"limits": {"velocity": "fast"}}, "velocity must be numbers, not 'fast'"),
        ({"limits": {"velocity": 0.0}}, "velocity is 0.0; valid: finite, above 0"),
        ({"drives": {"command_includes_gravity": 1}}, "must be true or false"),
        ({"urdf": {"file": "gone.urdf"}}, "gone.urdf"),
        ({"urdf": {"package": "nothing", "file": "a"}}, "package 'nothing' was not found"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    def merged(into: dict[str, object], other: dict[str, object]) -> dict[str, object]:
        out = dict(into)
        for key, value in other.items():
            old = out.get(key)
            nested = isinstance(value, dict) and isinstance(old, dict) and key != "urdf"
            out[key] = merged(old, value) if nested else value
        return out

    with pytest.raises(robots.RobotError, match=message):
        robots.get(str(written(tmp_path, merged(made_description(), change))))


def test_a_field_that_may_be_unknown_must_still_be_said(tmp_path: Path) -> None:
    description = made_description()
    limits = description["limits"]
    assert isinstance(limits, dict)
    del limits["jerk"]
    with pytest.raises(robots.RobotError, match="jerk is missing"):
        robots.get(str(written(tmp_path, description)))


def test_every_number_of_the_maker_and_every_assumption_has_a_source() -> None:
    for name in arms.names():
        arm = arms.find(name)
        for source in (
            arm.limits.source,
            arm.drives.friction_source,
            arm.drives.rotor_inertia_source,
        ):
            assert re.search(r"\w{4}", source), name
