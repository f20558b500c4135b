# SPDX-License-Identifier: Apache-2.0
"""A leader arm: a second arm that is moved by hand, by the states of its joints.

Where its tool is moves the robot's tool, as any device that says poses does: from wherever it is
when it is clutched. So leader and robot need not be of one kind, nor in the same posture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import vla_control
from vla_nodes.teleop.clutch import Input, InputError


@dataclass(frozen=True)
class LeaderSettings:
    """Of a leader arm.

    Attributes:
        urdf: Path of its description.
        joint_names: Of the arm, without the gripper.
        base_frame: Link whose axes are those of the robot's base.
        tool_frame: Link that moves the robot's tool.
        gripper_joint: That moves the robot's gripper; empty = none.
        gripper_closed: Its position that closes the robot's gripper, rad or m.
        gripper_open: Its position that opens it.
        max_opening: Of the robot's gripper, m.
    """

    urdf: str
    joint_names: tuple[str, ...]
    base_frame: str
    tool_frame: str
    gripper_joint: str
    gripper_closed: float
    gripper_open: float
    max_opening: float


class LeaderArm:
    """Turns states of its joints into where its tool is."""

    def __init__(self, settings: LeaderSettings) -> None:
        """Reads the description.

        Raises:
            ValueError: It cannot be read, or what is named is not in it.
        """
        try:
            text = Path(settings.urdf).read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"leader_urdf {settings.urdf!r}: {error.strerror}") from error
        if settings.gripper_joint and settings.gripper_open == settings.gripper_closed:
            raise ValueError(
                f"leader_gripper_open is {settings.gripper_open}, as leader_gripper_closed is; "
                "valid: another position"
            )
        self._settings = settings
        self._model = vla_control.RobotModel(
            vla_control.RobotDescription(
                urdf_xml=text,
                joint_names=list(settings.joint_names),
                base_frame=settings.base_frame,
                tool_frame=settings.tool_frame,
            )
        )

    def said(self, positions: Mapping[str, float]) -> Input:
        """What the leader says with its joints, rad, by their names.

        Raises:
            InputError: A joint is missing or its position is not finite.
        """
        settings = self._settings
        gripper = (settings.gripper_joint,) if settings.gripper_joint else ()
        for name in (*settings.joint_names, *gripper):
            value = positions.get(name)
            if value is None:
                raise InputError(
                    f"the leader says nothing of {name!r}; it has {', '.join(positions)}"
                )
            if not math.isfinite(value):
                raise InputError(f"the leader's joint {name!r} is at {value}; valid: finite")
        q = np.array([positions[name] for name in settings.joint_names])
        opening = None
        if gripper:
            closed = settings.gripper_closed
            share = (positions[settings.gripper_joint] - closed) / (settings.gripper_open - closed)
            opening = settings.max_opening * min(max(share, 0.0), 1.0)
        return Input(pose=np.asarray(self._model.forward_kinematics(q)), opening=opening)
