# SPDX-License-Identifier: Apache-2.0
"""Goals of the tasks with a mechanism, and how it answers in the expert's picture."""

from __future__ import annotations

import numpy as np

from vla_sim.experts.goals import CLOSED, HOVER_HEIGHT, TouchGoals, funnel, wrap
from vla_sim.experts.world import FINGER_DEPTH, Goal, World
from vla_sim.scene.mechanisms import BUTTON_TOP, BUTTON_TRAVEL, DRAWER_TRAVEL, HANDLE_GAP

# Of the tool with its fingertips in the gap behind the handle, m.
HOOK_HEIGHT = 0.030
# Open enough to stop pulling, m.
_OPENED = DRAWER_TRAVEL - 0.02
# From the tool's height when its closed fingertips touch a surface, m.
_TIP = 0.0095
# The tool is told to go so far below the cap's top, m: through its travel, against its spring.
_PRESS_DEPTH = 0.013


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


def pull_drawer(world: World) -> None:
    """Let the fingertips pull the handle along."""
    out, side = _axes(world.cube_yaw)
    along, across = float(world.offset @ out), float(world.offset @ side)
    pulled = along - (0.5 * HANDLE_GAP - FINGER_DEPTH)
    if world.position[2] > HOOK_HEIGHT + 0.02 or abs(across) > 0.035 or not 0 < pulled < 0.02:
        return
    pulled = min(pulled, DRAWER_TRAVEL - world.travel)
    world.travel += pulled
    world.cube = world.cube + np.array([*(pulled * out), 0.0])


def _axes(yaw: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the directions in which a drawer opens, and across, in the plane of the table."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([-cos, -sin]), np.array([sin, -cos])


class ButtonGoals(TouchGoals):
    """Close the gripper, go over the button, press it down and keep it there."""

    def floor(self, world: World) -> float:
        """Return the height to press to."""
        return BUTTON_TOP + _TIP - _PRESS_DEPTH


def press_button(world: World) -> None:
    """Let the fingertips push the cap down; its spring brings it back."""
    over = np.hypot(*world.offset) < 0.025
    pressed = BUTTON_TOP + _TIP - world.position[2] if over else 0.0
    world.travel = float(np.clip(pressed, 0.0, BUTTON_TRAVEL))
    world.cube = np.array([*world.cube[:2], BUTTON_TOP - world.travel])
