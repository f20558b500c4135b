# SPDX-License-Identifier: Apache-2.0
"""Goals of the tasks with a mechanism, and how it answers in the expert's picture."""

from __future__ import annotations

import numpy as np

from vla_sim.experts.goals import (
    CLOSED,
    HOVER_HEIGHT,
    PickGoals,
    TouchGoals,
    funnel,
    grasp_point,
    wrap,
)
from vla_sim.experts.world import FINGER_DEPTH, Goal, World
from vla_sim.scene.mechanisms import BUTTON_TOP, BUTTON_TRAVEL, DRAWER_TRAVEL, HANDLE_GAP
from vla_sim.typing import FloatArray

# Of the tool with its fingertips in the gap behind the handle, m.
HOOK_HEIGHT = 0.030
# Open enough to stop pulling, m.
_OPENED = DRAWER_TRAVEL - 0.02
# From the tool's height when its closed fingertips touch a surface, m.
_TIP = 0.0095
# The tool is told to go so far below the cap's top, m: through its travel, against its spring.
_PRESS_DEPTH = 0.013
# The tool follows its goal, and the arm its reference, by so much time, s.
_LEAD = 0.17
# So far below a puck's top the tool is told to go, m, by an arm that gives way and by one that does
# not.
_LEAN, _STIFF_LEAN = 0.009, 0.001
# How far a knob is turned, rad.
_TURN = np.deg2rad(48.0)


class DrawerGoals:
    """Close the gripper, hook its fingertips behind the handle, pull, rise."""

    def goal(self, world: World) -> Goal:
        """Return the goal for this state."""
        yaw = wrap(world.cube_yaw)
        if world.travel > _OPENED:
            up = np.array([*world.position[:2], HOVER_HEIGHT])
            return Goal(up, world.yaw, CLOSED, 0.6)
        out, side = _axes(world.cube_yaw)
        along, across = float(world.offset @ out), float(world.offset @ side)
        low = world.position[2] < HOOK_HEIGHT + 0.015
        turned = abs(wrap(yaw - world.yaw)) < 0.3
        if low and turned and abs(along) < 0.5 * HANDLE_GAP and abs(across) < 0.025:
            goal = world.aim[:2] + 0.02 * out
            return Goal(np.array([*goal, HOOK_HEIGHT]), yaw, CLOSED, 0.5)
        away = float(np.hypot(along, across))
        ready = world.opening < 0.02 and turned
        height = funnel(away, HOOK_HEIGHT if ready else HOVER_HEIGHT)
        speed = 0.6 if height < HOVER_HEIGHT and away < 0.02 else 1.0
        return Goal(np.array([*world.cube[:2], height]), yaw, CLOSED, speed)


def pull_drawer(world: World, dt: float) -> None:
    """Let the fingertips pull the handle along."""
    del dt
    out, side = _axes(world.cube_yaw)
    along, across = float(world.offset @ out), float(world.offset @ side)
    pulled = along - (0.5 * HANDLE_GAP - FINGER_DEPTH)
    if world.position[2] > HOOK_HEIGHT + 0.02 or abs(across) > 0.035 or not 0 < pulled < 0.02:
        return
    pulled = min(pulled, DRAWER_TRAVEL - world.travel)
    world.travel += pulled
    world.cube = world.cube + np.array([*(pulled * out), 0.0])


def _axes(yaw: float) -> tuple[FloatArray, FloatArray]:
    """Return the directions in which a drawer opens, and across, in the plane of the table."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([-cos, -sin]), np.array([sin, -cos])


class ButtonGoals(TouchGoals):
    """Close the gripper, go over the button, press it down and keep it there."""

    def floor(self, world: World) -> float:
        """Return the height to press to."""
        return BUTTON_TOP + _TIP - _PRESS_DEPTH


def press_button(world: World, dt: float) -> None:
    """Let the fingertips push the cap down; its spring brings it back."""
    del dt
    over = np.hypot(*world.offset) < 0.025
    pressed = BUTTON_TOP + _TIP - world.position[2] if over else 0.0
    world.travel = float(np.clip(pressed, 0.0, BUTTON_TRAVEL))
    world.cube = np.array([*world.cube[:2], BUTTON_TOP - world.travel])


class FollowGoals(TouchGoals):
    """Close the gripper, go over the puck, touch its top and go with it."""

    def goal(self, world: World) -> Goal:
        """Return the goal for this state."""
        ahead = turned_about(world.cube, world.aim, world.drift * _LEAD)
        away = float(np.hypot(*world.offset))
        closed = world.opening < 0.02
        floor = float(world.cube[2]) + _TIP - (_LEAN if world.compliant else _STIFF_LEAN)
        height = max(floor, funnel(max(0.0, away - 0.010), floor)) if closed else HOVER_HEIGHT
        return Goal(np.array([*ahead[:2], height]), 0.0, CLOSED, 1.0)


def carry_puck(world: World, dt: float) -> None:
    """Let the turntable carry the puck on."""
    world.travel += world.drift * dt
    world.cube = turned_about(world.cube, world.aim, world.drift * dt)


def turned_about(point: FloatArray, centre: FloatArray, angle: float) -> FloatArray:
    """Return a point turned about the vertical through a centre, rad."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = point[:2] - centre[:2]
    return np.array([centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y, point[2]])


class KnobGoals(PickGoals):
    """Grasp the wing, turn it to the side of the aim."""

    def yaw(self, world: World) -> float:
        """Return the yaw of the wing."""
        return wrap(world.cube_yaw)

    def carry(self, world: World) -> Goal:
        """Return the goal with the wing in the gripper."""
        side = np.sign(world.aim[1] - world.cube[1])
        yaw = world.yaw + side * _TURN - world.travel
        return Goal(grasp_point(world), float(yaw), CLOSED, 0.3)
