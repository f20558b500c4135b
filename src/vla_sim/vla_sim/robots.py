# SPDX-License-Identifier: Apache-2.0
"""The simulated robots: their URDF, frames, home posture, gripper and drive constants.

Geometry and inertias come from the ``example-robot-data`` package. The UR5 has no gripper there,
so a parallel gripper made of boxes is appended to its URDF: pinocchio, MuJoCo and
``/robot_description`` then all see the same model.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla_sim.typing import FloatArray

_DATA_FOLDER = "example-robot-data"

# Stiff enough that joint friction leaves the tool within 3 mm of its reference.
_STIFFNESS = {
    "translational_stiffness": [1000.0, 1000.0, 1000.0],
    "rotational_stiffness": [50.0, 50.0, 50.0],
}


class RobotError(ValueError):
    """A robot is unknown, or its description cannot be found."""


@dataclass(frozen=True)
class RobotSpec:
    """A robot that stands with its base frame in the origin of the world.

    Attributes:
        name: Short name, e.g. ``"panda"``.
        urdf_xml: URDF of arm and gripper; meshes as ``package://`` addresses.
        joint_names: Arm joints from base to tool.
        finger_joint_names: The two prismatic finger joints.
        finger_bodies: Links of the two fingers.
        base_frame: Frame all poses are expressed in.
        tool_frame: Frame between the finger pads, z along the fingers, y along their motion.
        home_q: Joint positions with the tool pointing down above the table, rad.
        max_opening: Largest distance between the pads, m.
        max_gripper_force: Largest force of the gripper, N.
        default_gripper_force: Force when a chunk names none, N.
        armature: Rotor inertia per arm joint as seen at the joint, kg m^2.
        dark_links: Links drawn in the dark colour of the robot.
        body_rgba: Main colour of the links.
        dark_rgba: Colour of ``dark_links`` and of the fingers.
        wrist_camera_position: Position of the wrist camera in the tool frame, m.
        wrist_camera_target: Point it looks at in the tool frame, m.
        controller_overrides: Attributes of the controller's configuration that differ from its own
            defaults.
    """

    name: str
    urdf_xml: str
    joint_names: tuple[str, ...]
    finger_joint_names: tuple[str, str]
    finger_bodies: tuple[str, str]
    base_frame: str
    tool_frame: str
    home_q: FloatArray
    max_opening: float
    max_gripper_force: float
    default_gripper_force: float
    armature: FloatArray
    dark_links: tuple[str, ...]
    body_rgba: tuple[float, float, float, float]
    dark_rgba: tuple[float, float, float, float]
    wrist_camera_position: tuple[float, float, float] = (0.075, 0.0, -0.075)
    wrist_camera_target: tuple[float, float, float] = (0.03, 0.0, 0.03)
    controller_overrides: dict[str, Any] = field(default_factory=lambda: dict(_STIFFNESS))

    @property
    def locked_joints(self) -> dict[str, float]:
        """Positions at which the rigid-body model freezes the fingers, m."""
        return dict.fromkeys(self.finger_joint_names, 0.5 * self.max_opening)

    def description(self) -> Any:
        """Return the ``vla_control.RobotDescription`` of this robot."""
        import vla_control

        return vla_control.RobotDescription(
            urdf_xml=self.urdf_xml,
            joint_names=list(self.joint_names),
            base_frame=self.base_frame,
            tool_frame=self.tool_frame,
            locked_joints=self.locked_joints,
        )

    def controller_config(self, **overrides: Any) -> Any:
        """Return a ``vla_control.ControllerConfig`` for this robot.

        Args:
            **overrides: Attributes of the configuration to set, by name. Nested attributes are
                written with a double underscore, e.g. ``chunk__blend_time=0.1``.

        Raises:
            AttributeError: The configuration has no such attribute.
        """
        import vla_control

        config = vla_control.ControllerConfig()
        defaults: dict[str, Any] = {
            "command_includes_gravity": False,
            "heartbeat_timeout_s": 0.0,
            "nullspace_posture": [float(v) for v in self.home_q],
            "gripper__max_opening": self.max_opening,
            "gripper__default_force": self.default_gripper_force,
            "gripper__max_force": self.max_gripper_force,
        }
        for name, value in {**defaults, **self.controller_overrides, **overrides}.items():
            *path, leaf = name.split("__")
            owner = config
            for part in path:
                owner = getattr(owner, part)
            if not hasattr(owner, leaf):
                raise AttributeError(f"ControllerConfig has no attribute {name!r}")
            setattr(owner, leaf, value)
        return config

    def mujoco_urdf(self) -> str:
        """Return the URDF as MuJoCo can load it: absolute collision meshes, no visuals."""
        xml = re.sub(r"<visual>.*?</visual>", "", self.urdf_xml, flags=re.DOTALL)
        xml = xml.replace("package://", f"{share_folder()}/")
        options = (
            "<mujoco>"
            '<compiler fusestatic="false" strippath="false" discardvisual="false"/>'
            "</mujoco>"
        )
        return re.sub(r"(<robot\b[^>]*>)", lambda m: m.group(1) + options, xml, count=1)


def share_folder() -> Path:
    """Return the ``share`` folder that holds ``example-robot-data``.

    Raises:
        RobotError: It is neither in this Python environment nor on ``AMENT_PREFIX_PATH``.
    """
    prefixes = [Path(entry) / "cmeel.prefix" for entry in sys.path if entry]
    prefixes += [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if p]
    for prefix in prefixes:
        if (prefix / "share" / _DATA_FOLDER / "robots").is_dir():
            return prefix / "share"
    raise RobotError(
        f"the package {_DATA_FOLDER!r} was not found; install it with `pip install {_DATA_FOLDER}`"
    )


def _read_urdf(relative: str) -> str:
    return (share_folder() / _DATA_FOLDER / "robots" / relative).read_text(encoding="utf-8")


def _panda() -> RobotSpec:
    return RobotSpec(
        name="panda",
        urdf_xml=_read_urdf("panda_description/urdf/panda.urdf"),
        joint_names=tuple(f"panda_joint{i}" for i in range(1, 8)),
        finger_joint_names=("panda_finger_joint1", "panda_finger_joint2"),
        finger_bodies=("panda_leftfinger", "panda_rightfinger"),
        base_frame="panda_link0",
        tool_frame="panda_hand_tcp",
        home_q=np.array([0.0, -0.12897, 0.0, -2.37771, 0.0, 2.24874, 0.785398]),
        max_opening=0.08,
        max_gripper_force=70.0,
        default_gripper_force=30.0,
        armature=np.full(7, 0.1),
        dark_links=("panda_link0", "panda_link7", "panda_leftfinger", "panda_rightfinger"),
        body_rgba=(0.93, 0.93, 0.94, 1.0),
        dark_rgba=(0.16, 0.16, 0.18, 1.0),
    )


_UR5_GRIPPER = """
  <link name="gripper_base">
    <inertial>
      <origin xyz="0 0 0.03"/>
      <mass value="0.6"/>
      <inertia ixx="0.0009" ixy="0" ixz="0" iyy="0.0005" iyz="0" izz="0.0009"/>
    </inertial>
    <collision>
      <origin xyz="0 0 0.0325"/>
      <geometry><box size="0.06 0.15 0.055"/></geometry>
    </collision>
  </link>
  <joint name="gripper_base_joint" type="fixed">
    <parent link="tool0"/>
    <child link="gripper_base"/>
  </joint>
  <link name="gripper_tcp">
    <inertial>
      <mass value="0"/>
      <inertia ixx="0" ixy="0" ixz="0" iyy="0" iyz="0" izz="0"/>
    </inertial>
  </link>
  <joint name="gripper_tcp_joint" type="fixed">
    <origin xyz="0 0 0.115"/>
    <parent link="gripper_base"/>
    <child link="gripper_tcp"/>
  </joint>
""" + "".join(
    f"""
  <link name="gripper_{side}_finger">
    <inertial>
      <origin xyz="0 {0.009 * sign} 0.03"/>
      <mass value="0.03"/>
      <inertia ixx="1e-5" ixy="0" ixz="0" iyy="1e-5" iyz="0" izz="2e-6"/>
    </inertial>
    <collision>
      <origin xyz="0 {0.0105 * sign} 0.020"/>
      <geometry><box size="0.022 0.013 0.040"/></geometry>
    </collision>
    <collision>
      <origin xyz="0 {0.0075 * sign} 0.052"/>
      <geometry><box size="0.0175 0.015 0.024"/></geometry>
    </collision>
  </link>
  <joint name="gripper_{side}_finger_joint" type="prismatic">
    <parent link="gripper_base"/>
    <child link="gripper_{side}_finger"/>
    <origin xyz="0 0 0.06"/>
    <axis xyz="0 {sign} 0"/>
    <limit effort="100" lower="0.0" upper="0.04" velocity="0.2"/>{mimic}
  </joint>
"""
    for side, sign, mimic in (
        ("left", 1, ""),
        ("right", -1, '<mimic joint="gripper_left_finger_joint"/>'),
    )
)


def _ur5() -> RobotSpec:
    arm = _read_urdf("ur_description/urdf/ur5_robot.urdf")
    arm = re.sub(r"<(gazebo|transmission)\b.*?</\1>", "", arm, flags=re.DOTALL)
    return RobotSpec(
        name="ur5",
        urdf_xml=arm.replace("</robot>", _UR5_GRIPPER + "</robot>"),
        joint_names=(
            "shoulder_pan_joint",
            "shoulder_lift_joint",
            "elbow_joint",
            "wrist_1_joint",
            "wrist_2_joint",
            "wrist_3_joint",
        ),
        finger_joint_names=("gripper_left_finger_joint", "gripper_right_finger_joint"),
        finger_bodies=("gripper_left_finger", "gripper_right_finger"),
        base_frame="base_link",
        tool_frame="gripper_tcp",
        home_q=np.array([-0.22940, -1.61011, 1.72902, -1.68970, -1.570796, -1.80020]),
        max_opening=0.08,
        max_gripper_force=70.0,
        default_gripper_force=30.0,
        armature=np.array([0.2, 0.2, 0.2, 0.1, 0.1, 0.1]),
        dark_links=(
            "wrist_3_link",
            "gripper_base",
            "gripper_left_finger",
            "gripper_right_finger",
        ),
        body_rgba=(0.70, 0.75, 0.80, 1.0),
        dark_rgba=(0.16, 0.16, 0.18, 1.0),
    )


_ROBOTS = {"panda": _panda, "ur5": _ur5}


def names() -> tuple[str, ...]:
    """Return the names of all robots."""
    return tuple(_ROBOTS)


@functools.cache
def get(name: str) -> RobotSpec:
    """Return the robot called ``name``.

    Raises:
        RobotError: There is no such robot; the message lists the valid names.
    """
    if name not in _ROBOTS:
        raise RobotError(f"unknown robot {name!r}; valid: {', '.join(_ROBOTS)}")
    return _ROBOTS[name]()
