# SPDX-License-Identifier: Apache-2.0
"""`vla move`: its targets, and which arm it moves."""

from __future__ import annotations

import argparse

import pytest

from vla_nodes.commands.move import targets
from vla_nodes.teleop.joint_mover import MoveError, find_arm
from vla_sim import arms


def options(target: str | None = None, joints: list[str] | None = None) -> argparse.Namespace:
    return argparse.Namespace(target=target, joints=joints)


def test_targets() -> None:
    assert targets(options(target="home")) is None
    assert targets(options(joints=["a=0.5", "b=-1e-1"])) == {"a": 0.5, "b": -0.1}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (options(), "name one target"),
        (options("home", ["a=1"]), "name one target"),
        (options(joints=["a"]), "NAME=RAD"),
        (options(joints=["a=up"]), "NAME=RAD"),
        (options(joints=["a=1", "a=2"]), "twice"),
    ],
)
def test_bad_targets_are_named(given: argparse.Namespace, words: str) -> None:
    with pytest.raises(MoveError, match=words):
        targets(given)


def test_an_arm_is_found_by_its_joints_or_its_description() -> None:
    panda, ur5e = arms.find("panda"), arms.find("ur5e")
    assert find_arm(None, "another description", list(panda.joint_names)).name == "panda"
    assert find_arm(None, ur5e.urdf_xml, list(ur5e.joint_names)).name == "ur5e"
    assert find_arm("ur10", "another description", list(ur5e.joint_names)).name == "ur10"


@pytest.mark.parametrize(
    ("robot", "joints", "words"),
    [
        (None, arms.find("ur5e").joint_names, "--robot; ur5, ur5e, ur10"),
        (None, ("a", "b"), "--robot; fr3, gen3, panda"),
        ("ur5e", arms.find("panda").joint_names, "shoulder_pan_joint"),
        # Limits are by position: another order would mix them up.
        ("panda", arms.find("panda").joint_names[::-1], "has the joints panda_joint1"),
        ("hal", arms.find("panda").joint_names, "unknown robot 'hal'"),
    ],
)
def test_an_arm_that_is_not_sure_is_not_moved(
    robot: str | None, joints: tuple[str, ...], words: str
) -> None:
    with pytest.raises(MoveError, match=words):
        find_arm(robot, "another description", list(joints))
