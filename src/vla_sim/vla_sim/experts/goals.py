# SPDX-License-Identifier: Apache-2.0
"""What the tool should do next at each task, as a function of the state alone.

Nothing is remembered, so whatever a disturbance does, the next goal is right for what is there:
a cube that was moved is approached anew, one that was dropped is picked up again.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vla_sim.experts.world import FINGER_DEPTH, Goal, World
from vla_sim.scene import CUBE_SIZE
from vla_sim.typing import FloatArray

OPEN = 0.08
CLOSED = 0.0
HOVER_HEIGHT = 0.11
GRASP_HEIGHT = 0.02
LIFT_HEIGHT = 0.20
# Contact of the fingertips with the top of a cube comes at 0.0495 m.
TOUCH_HEIGHT = 0.044
PUSH_HEIGHT = 0.024
# Distance from tool to cube at which pushing begins.
PUSH_CONTACT = FINGER_DEPTH + 0.5 * CUBE_SIZE
WAITING_PLACE = np.array([0.48, 0.0, 0.27])
MAX_YAW = np.deg2rad(62.0)


class Goals(Protocol):
    """Says where the tool shall go."""

    def goal(self, world: World) -> Goal:
        """Return the goal for this state."""
        ...


class TouchGoals:
    """Close the gripper, go over the cube, touch its top."""

    def goal(self, world: World) -> Goal:
        """Return the goal for this state."""
        away = float(np.hypot(*world.offset))
        closed = world.opening < 0.02
        height = funnel(away, self.floor(world) if closed else HOVER_HEIGHT)
        speed = 0.4 if height < HOVER_HEIGHT and away < 0.02 else 1.0
        return Goal(np.array([*world.cube[:2], height]), 0.0, CLOSED, speed)

    def floor(self, world: World) -> float:
        """Return the height to go down to."""
        return float(world.cube[2]) + TOUCH_HEIGHT - 0.5 * CUBE_SIZE


class PickGoals:
    """Open over the cube, go down, close, lift."""

    def goal(self, world: World) -> Goal:
        """Return the goal for this state."""
        if world.held:
            return self.carry(world)
        if world.cube_between_pads() and world.opening > world.width - 0.004:
            return Goal(grasp_point(world), self.yaw(world), CLOSED, 0.3)
        return self.approach(world)

    def carry(self, world: World) -> Goal:
        """Return the goal with the cube in the gripper."""
        lifted = np.array([*world.position[:2], LIFT_HEIGHT])
        return Goal(lifted, world.yaw, CLOSED, 0.8)

    def yaw(self, world: World) -> float:
        """Return the yaw at which to grasp the object, rad."""
        return grasp_yaw(world)

    def approach(self, world: World) -> Goal:
        """Return the goal on the way to the cube."""
        away = float(np.hypot(*world.offset))
        yaw = self.yaw(world)
        turned = abs(wrap(yaw - world.yaw)) < 0.12
        floor = float(grasp_point(world)[2])
        ready = turned and world.opening > 0.07
        clear = world.position[2] < floor + 0.03 and away < 0.012
        height = funnel(away, floor if ready or clear else HOVER_HEIGHT)
        speed = 0.5 if height < HOVER_HEIGHT and away < 0.015 else 1.0
        return Goal(np.array([*world.cube[:2], height]), yaw, OPEN, speed)


class PushGoals:
    """Close the gripper, go down behind the cube, push it to the middle of the zone."""

    def goal(self, world: World) -> Goal:
        """Return the goal for this state."""
        heading = world.aim[:2] - world.cube[:2]
        distance = float(np.linalg.norm(heading))
        if distance < 0.02:
            up = np.array([*world.position[:2], HOVER_HEIGHT])
            return Goal(up, world.yaw, CLOSED, 0.6)
        heading = heading / distance
        yaw = float(np.clip(np.arctan2(heading[1], heading[0]), -MAX_YAW, MAX_YAW))
        along = float(world.offset @ heading)
        across = world.offset - along * heading
        error = float(np.linalg.norm(across))
        low = world.position[2] < PUSH_HEIGHT + 0.02
        turned = abs(wrap(yaw - world.yaw)) < 0.35
        behind = -0.13 < along < -0.02
        if low and behind and error < 0.018 and turned:
            # Aims past the cube, so that sideways errors shrink while it moves.
            goal = world.aim[:2] - (PUSH_CONTACT + 0.002) * heading - 1.5 * across
            return Goal(np.array([*goal, PUSH_HEIGHT]), yaw, CLOSED, 0.45)
        start = world.cube[:2] - (PUSH_CONTACT + 0.035) * heading
        away = float(np.hypot(*(world.position[:2] - start)))
        closed = world.opening < 0.02
        ready = closed and abs(wrap(yaw - world.yaw)) < 0.2
        height = funnel(away, PUSH_HEIGHT if ready else HOVER_HEIGHT)
        speed = 0.7 if height < HOVER_HEIGHT else 1.0
        return Goal(np.array([*start, height]), yaw, CLOSED, speed)


class WaitGoals:
    """Go above the middle of the table, or stay there, with the gripper open."""

    def goal(self, world: World) -> Goal:
        """Return the goal for this state."""
        del world
        return Goal(WAITING_PLACE, 0.0, OPEN, 0.6)


def push_cube(world: World, dt: float) -> None:
    """Let the closed fingers push the cube before them towards its aim."""
    del dt
    heading = world.aim[:2] - world.cube[:2]
    distance = float(np.linalg.norm(heading))
    if world.position[2] > 0.045 or world.opening > 0.5 * CUBE_SIZE or distance < 1e-6:
        return
    heading = heading / distance
    along = float(world.offset @ heading)
    across = float(np.linalg.norm(world.offset - along * heading))
    if across < 0.02 and -PUSH_CONTACT < along < 0.0:
        shift = (along + PUSH_CONTACT) * heading
        world.cube = world.cube + np.array([shift[0], shift[1], 0.0])


def funnel(away: float, floor: float) -> float:
    """Return the height to go for at a horizontal distance: down only when nearly above, m."""
    return float(np.clip(floor + 6.0 * (away - 0.008), floor, HOVER_HEIGHT))


def grasp_point(world: World) -> FloatArray:
    """Return where the tool is when it grasps the object, m."""
    height = max(float(world.cube[2]), world.rest) + world.grip
    return np.array([*world.cube[:2], max(height, GRASP_HEIGHT)])


def grasp_yaw(world: World) -> float:
    """Return the yaw, of the four that fit the cube, nearest to the tool's and not too far out."""
    quarter = 0.5 * np.pi
    turns = np.round((0.9 * world.yaw - world.cube_yaw) / quarter)
    yaw = wrap(float(world.cube_yaw + turns * quarter))
    if abs(yaw) > MAX_YAW:
        yaw -= np.sign(yaw) * quarter
    return float(yaw)


def wrap(angle: float) -> float:
    """Return an angle within half a turn, rad."""
    return float((angle + np.pi) % (2.0 * np.pi) - np.pi)
