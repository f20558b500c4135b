# SPDX-License-Identifier: Apache-2.0
"""The simulated robots: an arm's description, dressed for MuJoCo and for the controller."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Any

from vla_sim import arms
from vla_sim.arms import ArmDescription, ArmError
from vla_sim.typing import FloatArray

_OVERRIDES = {
    # Stiff enough that joint friction leaves the tool within 3 mm of its reference.
    "translational_stiffness": [1000.0, 1000.0, 1000.0],
    "rotational_stiffness": [50.0, 50.0, 50.0],
    # A chunk whose noise leaves no room for a blend is followed slower rather than not at all.
    "chunk__max_slowdown": 1.5,
}


class RobotError(ValueError):
    """A robot is unknown, or its description cannot be found."""


@dataclass(frozen=True)
class RobotSpec:
    """A robot that stands with its base frame in the origin of the world.

    Attributes:
        arm: Its description: limits, drives, gripper.
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

    arm: ArmDescription
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
    wrist_camera_position: tuple[float, float, float]
    wrist_camera_target: tuple[float, float, float]
    controller_overrides: dict[str, Any] = field(default_factory=lambda: dict(_OVERRIDES))

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
            "effort_state": vla_control.EffortState.NONE,
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

    def located_urdf(self, scheme: str = "file://") -> str:
        """Return the URDF with absolute addresses of its meshes.

        Programs that look for packages on ``AMENT_PREFIX_PATH`` alone find them so.
        """
        return re.sub(
            r"package://([^/]+)",
            lambda m: f"{scheme}{arms.share_of(m[1])}/{m[1]}",
            self.urdf_xml,
        )

    def mujoco_urdf(self) -> str:
        """Return the URDF as MuJoCo can load it: absolute collision meshes, no visuals."""
        xml = re.sub(r"<visual>.*?</visual>", "", self.located_urdf(""), flags=re.DOTALL)
        options = (
            "<mujoco>"
            '<compiler fusestatic="false" strippath="false" discardvisual="false"/>'
            "</mujoco>"
        )
        return re.sub(r"(<robot\b[^>]*>)", lambda m: m.group(1) + options, xml, count=1)


def from_arm(arm: ArmDescription) -> RobotSpec:
    """Return the simulated robot of a description."""
    return RobotSpec(
        arm=arm,
        name=arm.name,
        urdf_xml=arm.urdf_xml,
        joint_names=arm.joint_names,
        finger_joint_names=arm.gripper.joints,
        finger_bodies=arm.gripper.fingers,
        base_frame=arm.base_frame,
        tool_frame=arm.tool_frame,
        home_q=arm.home,
        max_opening=arm.gripper.max_opening,
        max_gripper_force=arm.gripper.max_force,
        default_gripper_force=arm.gripper.default_force,
        armature=arm.drives.rotor_inertia,
        dark_links=arm.look.dark_links,
        body_rgba=(*arm.look.body, 1.0),
        dark_rgba=(*arm.look.dark, 1.0),
        wrist_camera_position=arm.look.wrist_camera_position,
        wrist_camera_target=arm.look.wrist_camera_target,
    )


@functools.cache
def names() -> tuple[str, ...]:
    """Return the names of the robots that the simulator's tasks are tested with."""
    return tuple(name for name in arms.names() if arms.find(name).tasks)


@functools.cache
def get(name: str) -> RobotSpec:
    """Return a robot by the name of its arm, or by the path of the arm's YAML.

    Raises:
        RobotError: There is no such robot; the message lists the valid names.
    """
    try:
        return from_arm(arms.find(name))
    except ArmError as error:
        raise RobotError(str(error)) from error
