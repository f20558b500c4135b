# SPDX-License-Identifier: Apache-2.0
"""Poses of a simulated robot's links and cameras, as tf wants them: child in parent. No rclpy."""

from __future__ import annotations

from typing import Any, NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# MuJoCo's cameras look along -z with y up; ROS's optical frames along +z with y down (REP-103).
OPTICAL_IN_MUJOCO = np.diag([1.0, -1.0, -1.0, 1.0])


class LinkPose(NamedTuple):
    """Pose (4, 4) of ``child`` in ``parent``, m."""

    parent: str
    child: str
    pose: FloatArray


def camera_frame(camera: str) -> str:
    """Name of the optical frame of a camera."""
    return f"camera_{camera}_optical_frame"


def _matrix(position: FloatArray, rotation: FloatArray) -> FloatArray:
    pose = np.eye(4)
    pose[:3, :3] = rotation.reshape(3, 3)
    pose[:3, 3] = position
    return pose


class LinkTree:
    """The robot's links in a compiled scene; its base frame is the world's origin.

    One thread: it computes in MuJoCo data of its own.
    """

    def __init__(self, model: mujoco.MjModel, base_frame: str, finger_joint: str) -> None:
        """Finds the links.

        Args:
            model: A scene of ``vla_sim``.
            base_frame: Frame at the origin.
            finger_joint: A joint of the robot; the links above and beside it are its tree.
        """
        self._model = model
        self._data = mujoco.MjData(model)
        self._base_frame = base_frame
        robot_root = int(model.body_rootid[model.joint(finger_joint).bodyid[0]])
        self._links = [
            body for body in range(1, model.nbody) if int(model.body_rootid[body]) == robot_root
        ]
        self._moving = [body for body in self._links if model.body_jntnum[body] > 0]
        self._fixed = [body for body in self._links if model.body_jntnum[body] == 0]

    def moving(self, qpos: FloatArray) -> list[LinkPose]:
        """Links with a joint, at joint positions ``qpos`` of the whole scene."""
        self._update(qpos)
        return [self._relative(body) for body in self._moving]

    def fixed(self, qpos: FloatArray, cameras: tuple[str, ...]) -> list[LinkPose]:
        """Links without a joint, and the optical frames of the cameras."""
        self._update(qpos)
        poses = [
            self._relative(body) for body in self._fixed if self._name(body) != self._base_frame
        ]
        for camera in cameras:
            index = self._model.camera(camera).id
            body = int(self._model.cam_bodyid[index])
            rotation = np.zeros(9)
            mujoco.mju_quat2Mat(rotation, self._model.cam_quat[index])
            pose = _matrix(self._model.cam_pos[index], rotation) @ OPTICAL_IN_MUJOCO
            poses.append(LinkPose(self._name(body), camera_frame(camera), pose))
        return poses

    def vertical_fov(self, camera: str) -> float:
        """Vertical field of view of a camera, rad."""
        return float(np.deg2rad(self._model.cam_fovy[self._model.camera(camera).id]))

    def _update(self, qpos: FloatArray) -> None:
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)

    def _name(self, body: int) -> str:
        return self._base_frame if body == 0 else str(self._model.body(body).name)

    def _relative(self, body: int) -> LinkPose:
        parent = int(self._model.body_parentid[body])
        data: Any = self._data
        child_pose = _matrix(data.xpos[body], data.xmat[body])
        parent_pose = _matrix(data.xpos[parent], data.xmat[parent])
        inverse = np.eye(4)
        inverse[:3, :3] = parent_pose[:3, :3].T
        inverse[:3, 3] = -parent_pose[:3, :3].T @ parent_pose[:3, 3]
        return LinkPose(self._name(parent), self._name(body), inverse @ child_pose)
