# SPDX-License-Identifier: Apache-2.0
"""Turns an operator's device into targets of the tool, without ROS.

A device is clutched to the controller's *reference*, not to where the arm is measured: what the arm
presses with, carries or lags behind stays as it is when somebody takes over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from vla_sim.typing import FloatArray


class InputError(ValueError):
    """What a device says cannot be followed; the text says why."""


@dataclass(frozen=True)
class Bounds:
    """What a device may ask for.

    Attributes:
        speed: Largest speed of the tool, m/s.
        turning: Largest angular speed, rad/s.
        scale: Motion of the tool per motion of a device that says poses; turns are not scaled.
        jump: Largest distance between two poses of a device, m; beyond it, it has lost track.
        jump_angle: The same of their orientations, rad.
    """

    speed: float = 0.25
    turning: float = 1.0
    scale: float = 1.0
    jump: float = 0.05
    jump_angle: float = 0.3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.0 < value < np.inf:
                raise InputError(f"{name} is {value}; valid: > 0")


@dataclass(frozen=True)
class Input:
    """What a device says at one time: how fast the tool shall move, or where the device is.

    Attributes:
        twist: (6,) of the tool point, m/s and rad/s; None = a pose is said.
        in_tool: Whether the twist is along the axes of the tool, not of the base.
        pose: (4, 4) of the device in a frame of its own, whose axes are the base's.
        opening: Of the gripper, m between the pads; None = as it is.
    """

    twist: FloatArray | None = None
    in_tool: bool = False
    pose: FloatArray | None = None
    opening: float | None = None

    def __post_init__(self) -> None:
        if (self.twist is None) == (self.pose is None):
            raise InputError("a device says either a twist or a pose")
        for name, values, shape in (("twist", self.twist, (6,)), ("pose", self.pose, (4, 4))):
            if values is not None and (values.shape != shape or not np.isfinite(values).all()):
                raise InputError(f"the {name} is {values.tolist()}; valid: finite, {shape}")
        if self.opening is not None and not 0.0 <= self.opening < np.inf:
            raise InputError(f"opening is {self.opening} m; valid: 0 or more")


class Clutch:
    """Follows one device from when it is granted the arm until it lets go."""

    def __init__(self, bounds: Bounds) -> None:
        """Disengaged."""
        self.bounds = bounds
        self._reference: FloatArray | None = None
        self._device: FloatArray | None = None  # where it was when it was clutched
        self._last: FloatArray | None = None

    def engage(self, reference: FloatArray) -> None:
        """The device is granted the arm.

        Args:
            reference: (4, 4) of the tool in the base frame that the controller follows.
        """
        self._reference, self._device, self._last = reference.copy(), None, None

    def twist(self, said: Input, rotation: FloatArray) -> FloatArray:
        """The twist to command.

        Args:
            said: Of a device that says twists.
            rotation: (3, 3) of the tool in the base frame.

        Returns:
            (6,) m/s and rad/s along the axes of the base, shortened to the bounds.
        """
        if said.twist is None:
            raise InputError("the device says no twist")
        linear, angular = said.twist[:3], said.twist[3:]
        if said.in_tool:
            linear, angular = rotation @ linear, rotation @ angular
        return np.concatenate(
            [_shortened(linear, self.bounds.speed), _shortened(angular, self.bounds.turning)]
        )

    def pose(self, said: Input) -> FloatArray:
        """The pose to command, for a device that says poses.

        Returns:
            (4, 4) of the tool in the base frame: the reference as it was when the device was
            clutched, moved as the device has moved since.

        Raises:
            InputError: It has jumped; it has to be clutched anew.
        """
        if said.pose is None or self._reference is None:
            raise InputError("the device says no pose, or is not clutched")
        if self._device is None or self._last is None:
            self._device = self._last = said.pose
        moved = float(np.linalg.norm(said.pose[:3, 3] - self._last[:3, 3]))
        turned = Rotation.from_matrix(said.pose[:3, :3] @ self._last[:3, :3].T).magnitude()
        if moved > self.bounds.jump or turned > self.bounds.jump_angle:
            raise InputError(f"the device has jumped by {moved:.3f} m and {turned:.2f} rad")
        self._last = said.pose
        target = self._reference.copy()
        target[:3, 3] += self.bounds.scale * (said.pose[:3, 3] - self._device[:3, 3])
        target[:3, :3] = said.pose[:3, :3] @ self._device[:3, :3].T @ target[:3, :3]
        return target


def _shortened(vector: FloatArray, most: float) -> FloatArray:
    length = float(np.linalg.norm(vector))
    return vector if length <= most else vector * (most / length)
