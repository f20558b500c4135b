# SPDX-License-Identifier: Apache-2.0
"""A small kinematic picture of tool and named object, in which an expert looks ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vla_sim.scene import CUBE_SIZE
from vla_sim.typing import FloatArray

# The expert moves its tool within these, well inside what the controller can follow.
CRUISE_SPEED = 0.25
ACCELERATION = 1.2
TURN_SPEED = 1.4
TURN_ACCELERATION = 6.0
GRIPPER_SPEED = 0.2
# The pads have pressed for this long when the cube counts as held, s.
SQUEEZE_TIME = 0.10
# Half the depth of the closed fingers, m.
FINGER_DEPTH = 0.0095

TOOL_DOWN = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Goal:
    """Where the tool shall go next.

    Attributes:
        position: Of the tool in the base frame, m.
        yaw: Of the tool that points down, rad; 0 = as at home.
        opening: Of the gripper, m.
        speed: Share of the cruising speed.
        tilt: Of the tool about the axis along which its fingers move, rad; with the gripper's back
            towards the robot it is positive.
    """

    position: FloatArray
    yaw: float
    opening: float
    speed: float = 1.0
    tilt: float = 0.0


@dataclass
class World:
    """Tool and named object, as they are or as they are expected to become.

    Attributes:
        position: Of the tool in the base frame, m.
        rotation: Of the tool in the base frame, shape (3, 3).
        velocity: Of the tool, m/s.
        angular_velocity: Of the tool in base axes, rad/s.
        opening: Of the gripper, m.
        cube: Position of the named object, m: of a cube its centre; see ``scene.ObjectStates``.
        cube_yaw: Of the named object, rad.
        held: Whether both fingers hold the object.
        squeezed: How long the pads have pressed on the object, s.
        aim: Where the object shall go (x, y, z), m; see ``Task.aim``.
        travel: How far the object's joint has moved, m or rad.
        react: What the object does for so many seconds, unless it is held.
        hinged: Whether a held object stays where it is and turns with the tool.
        drift: How fast the object turns about its aim by itself, rad/s.
        grip: Height above the object's position at which it is held, m.
        width: Of the object between the pads, m; 0 = it cannot be held.
        rest: Height of the object's position when it lies on the table, m.
        compliant: Whether the arm gives way to what it presses on.
    """

    position: FloatArray
    rotation: FloatArray
    velocity: FloatArray
    angular_velocity: FloatArray
    opening: float
    cube: FloatArray
    cube_yaw: float
    held: bool
    squeezed: float
    aim: FloatArray
    travel: float = 0.0
    react: Callable[[World, float], None] | None = None
    hinged: bool = False
    drift: float = 0.0
    grip: float = 0.0
    width: float = CUBE_SIZE
    rest: float = 0.5 * CUBE_SIZE
    compliant: bool = True

    @property
    def yaw(self) -> float:
        """Yaw of the tool, rad; 0 = as at home."""
        return float(np.arctan2(self.rotation[1, 0], self.rotation[0, 0]))

    @property
    def offset(self) -> FloatArray:
        """Horizontal position of the tool relative to the cube, m."""
        return self.position[:2] - self.cube[:2]

    def cube_between_pads(self) -> bool:
        """Return whether closing the gripper here would meet the cube.

        Once it is closing, the cube may be further off the middle: the pads will move it there.
        """
        reach = 0.016 if self.opening > 0.074 else 0.026
        above = self.position[2] - self.cube[2] - self.grip
        return bool(np.hypot(*self.offset) < reach and abs(above) < reach)

    def step(self, goal: Goal, dt: float) -> None:
        """Move towards a goal for ``dt`` seconds and let the cube follow."""
        before, yaw = self.position, self.yaw
        self._move(goal, dt)
        self._turn(goal, dt)
        self._drive_gripper(goal, dt)
        if self.held or self.squeezed > 0.0:
            turn = float(np.arctan2(np.sin(self.yaw - yaw), np.cos(self.yaw - yaw)))
            self.cube_yaw += turn
            if self.hinged:
                self.travel += turn
            else:
                self.cube = self.cube + self.position - before
        elif self.react is not None:
            self.react(self, dt)

    def _move(self, goal: Goal, dt: float) -> None:
        to_go = goal.position - self.position
        distance = float(np.linalg.norm(to_go))
        # Brakes at the acceleration limit, and softly over the last millimetres.
        speed = min(
            goal.speed * CRUISE_SPEED,
            np.sqrt(2.0 * 0.7 * ACCELERATION * distance),
            8.0 * distance,
        )
        wanted = to_go * (speed / max(distance, 1e-9))
        change = wanted - self.velocity
        size = float(np.linalg.norm(change))
        self.velocity = self.velocity + change * min(1.0, ACCELERATION * dt / max(size, 1e-9))
        self.position = self.position + self.velocity * dt

    def _turn(self, goal: Goal, dt: float) -> None:
        cos, sin = np.cos(goal.yaw), np.sin(goal.yaw)
        target = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ TOOL_DOWN
        if goal.tilt:
            target = target @ rotation_matrix(np.array([0.0, goal.tilt, 0.0]))
        to_go = rotation_vector(target @ self.rotation.T)
        angle = float(np.linalg.norm(to_go))
        speed = min(TURN_SPEED, np.sqrt(2.0 * 0.7 * TURN_ACCELERATION * angle), 8.0 * angle)
        change = to_go * (speed / max(angle, 1e-9)) - self.angular_velocity
        size = float(np.linalg.norm(change))
        limit = TURN_ACCELERATION * dt
        self.angular_velocity = self.angular_velocity + change * min(1.0, limit / max(size, 1e-9))
        self.rotation = rotation_matrix(self.angular_velocity * dt) @ self.rotation

    def _drive_gripper(self, goal: Goal, dt: float) -> None:
        closing = goal.opening < self.opening
        if closing and self.held:
            return
        travel = float(
            np.clip(goal.opening - self.opening, -GRIPPER_SPEED * dt, GRIPPER_SPEED * dt)
        )
        meets = 0.0 < self.width >= self.opening + travel
        if closing and meets and self.cube_between_pads():
            self.opening = self.width
            self.squeezed += dt
            self.held = self.squeezed >= SQUEEZE_TIME
            return
        self.opening += travel
        self.squeezed = 0.0
        if self.held:
            self.held = False
            arrived = np.hypot(*(self.cube[:2] - self.aim[:2])) < 0.03
            resting = max(self.rest, self.aim[2]) if arrived else self.rest
            self.cube = np.array([self.cube[0], self.cube[1], min(resting, self.cube[2])])


def rotation_vector(rotation: FloatArray) -> FloatArray:
    """Return the rotation vector of a rotation matrix; any axis at half a turn."""
    w = 0.5 * np.sqrt(max(0.0, 1.0 + np.trace(rotation)))
    axis = 0.5 * np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine = float(np.linalg.norm(axis))
    angle = float(np.arctan2(sine, 2.0 * w * w - 1.0))
    if sine > 1e-9:
        return np.asarray(axis * (angle / sine))
    if angle < 1.0:
        return axis
    column = int(np.argmax(np.diag(rotation)))
    direction = rotation[:, column] + np.eye(3)[column]
    return np.asarray(direction * (angle / np.linalg.norm(direction)))


def rotation_matrix(vector: FloatArray) -> FloatArray:
    """Return the rotation matrix of a rotation vector (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross))
