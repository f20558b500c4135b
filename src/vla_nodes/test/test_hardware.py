# SPDX-License-Identifier: Apache-2.0
"""The choice of the hardware of a launch, and how MuJoCo's is described."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
import yaml

import vla_control
from vla_nodes.system import hardware
from vla_nodes.system.description import SystemDescriptionError, load_system, prepared
from vla_sim import collision, robots

CONFIG = Path(__file__).parents[3] / "config"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names in the ament index; all that is needed, unless a test takes some away."""
    names = {name for _, name in hardware._NEEDS}
    monkeypatch.setattr(hardware, "has_resource", lambda kind, name: name in names)
    return names


def test_mujoco_is_chosen_where_it_is_installed(installed: set[str]) -> None:
    assert hardware.choose("auto")[0] == hardware.choose("mujoco")[0] == "mujoco"
    assert hardware.choose("sim")[0] == "sim"


@pytest.mark.parametrize("missing", [name for _, name in hardware._NEEDS])
def test_what_is_missing_is_said(installed: set[str], missing: str) -> None:
    installed.remove(missing)
    chosen, line = hardware.choose("auto")
    assert chosen == "sim"
    assert missing in line
    assert "own simulation" in line
    with pytest.raises(SystemDescriptionError, match=missing):
        hardware.choose("mujoco")


def test_each_hardware_runs_its_own_nodes_and_the_common_ones() -> None:
    system = load_system(str(CONFIG / "franka"))
    names = {
        chosen: {node.name for node in prepared(system, hardware=chosen).nodes}
        for chosen in ("sim", "mujoco")
    }
    common = {"supervisor", "policy", "lifecycle_manager"}
    assert names["sim"] == common | {"sim"}
    bridge = {"controller_manager", "robot_state_publisher", "gripper"}
    assert names["mujoco"] == common | bridge


def test_the_description_fits_scene_and_parameters(tmp_path: Path) -> None:
    urdf = hardware.describe("panda", "touch", 0, tmp_path)
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "scene.xml"))
    control = ElementTree.fromstring(urdf).find("ros2_control")
    assert control is not None
    assert control.findtext("hardware/param[@name='mujoco_model']") == str(tmp_path / "scene.xml")
    joints = [joint.get("name") for joint in control.iter("joint")]
    actuators = [model.actuator(index).name for index in range(model.nu)]
    assert joints[:-1] == [name for name in actuators if name != "turntable"]  # of the scene
    commands = [
        [one.get("name") for one in joint.iter("command_interface")]
        for joint in control.iter("joint")
    ]
    assert commands == 7 * [["effort"]] + [["position"], []]

    path = CONFIG / "franka" / "mujoco.yaml"
    nodes = yaml.safe_load(path.read_text())
    values = nodes["controller"]["ros__parameters"]
    robot = robots.get("panda")
    assert nodes["gripper_controller"]["ros__parameters"]["joint"] == joints[7]
    assert tuple(joints[7:]) == robot.finger_joint_names
    assert values["joints"] == list(robot.joint_names)
    locked = dict(zip(values["locked_joints"], values["locked_positions"], strict=True))
    assert locked == robot.locked_joints
    assert values["nullspace_posture"] == pytest.approx(list(robot.home_q))
    assert values["rotor_inertia"] == pytest.approx(list(robot.armature))
    assert values["control_rate"] == pytest.approx(1.0 / model.opt.timestep)
    assert np.all(model.body_gravcomp[1:9] == 1.0) != values["command_includes_gravity"]
    description = vla_control.RobotDescription(
        urdf_xml=urdf,
        joint_names=values["joints"],
        base_frame=values["base_frame"],
        tool_frame=values["tool_frame"],
        locked_joints=locked,
    )
    touching = values["collision"]["may_touch"]
    table = values["obstacle"]["table"]
    monitor = vla_control.CollisionMonitor(
        description,
        values["collision"]["home"],
        obstacles=[vla_control.Obstacle("table", table["position"], table["size"])],
        ignored_pairs=list(zip(touching[::2], touching[1::2], strict=True)),
    )
    wanted = collision.make_monitor(robot, [collision.table()])
    assert monitor.pairs == wanted.pairs
    found, same = monitor.compute(robot.home_q), wanted.compute(robot.home_q)
    assert [one.distance for one in found] == pytest.approx([one.distance for one in same])


def test_an_unknown_task_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pick"):
        hardware.describe("panda", "juggle", 0, tmp_path)
