# SPDX-License-Identifier: Apache-2.0
"""Goals of the tasks with a tool or a plate to work on."""

from __future__ import annotations

import numpy as np

from vla_sim.experts.goals import CLOSED, HOVER_HEIGHT, OPEN, PickGoals, funnel, wrap
from vla_sim.experts.placing import CARRY_HEIGHT
from vla_sim.experts.world import Goal, World
from vla_sim.scene.tools import MARK_DOTS, MARK_SPACING, PEG_HEIGHT, PLATE_TOP, SOCKET_HEIGHT

# From the tool's height when its closed fingertips touch a surface, m.
_TIP = 0.0095
# The tool is told to go so far below the plate's top, m, by an arm that gives way (at 1000 N/m,
# about 6 N) and by one that does not.
_WIPE_DEPTH, _STIFF_WIPE_DEPTH = 0.006, 0.003
# From the middle of the mark to where wiping begins and ends, m.
_HALF_WAY = 0.5 * (MARK_DOTS - 1) * MARK_SPACING + 0.018
# The peg is held so far above its middle.
PEG_GRIP = 0.020
_INSERT_SPEED = 0.25
# The cup is held so far above its foot, and leans by so much when it pours.
CUP_GRIP = 0.052
_POUR = np.deg2rad(46.0)
_POUR_HEIGHT = 0.17


class WipeGoals:
    """Close the gripper, press its fingertips on one end of the mark, draw them to the other."""

    def goal(self, world: World) -> Goal:
        """Return the goal for this state."""
        if world.travel > 0.99:
            return Goal(np.array([*world.position[:2], HOVER_HEIGHT]), world.yaw, CLOSED, 0.6)
        yaw = wrap(world.cube_yaw)
        line = np.array([-np.sin(yaw), np.cos(yaw)])
        along = float(world.offset @ line)
        across = float(np.linalg.norm(world.offset - along * line))
        low = world.position[2] < PLATE_TOP + _TIP + 0.004
        pressed = PLATE_TOP + _TIP - (_WIPE_DEPTH if world.compliant else _STIFF_WIPE_DEPTH)
        if low and across < 0.012 and -_HALF_WAY - 0.01 < along < _HALF_WAY - 0.004:
            end = world.cube[:2] + _HALF_WAY * line
            return Goal(np.array([*end, pressed]), yaw, CLOSED, 0.35)
        start = world.cube[:2] - _HALF_WAY * line
        away = float(np.hypot(*(world.position[:2] - start)))
        ready = world.opening < 0.02 and abs(wrap(yaw - world.yaw)) < 0.2
        height = funnel(away, pressed if ready else HOVER_HEIGHT)
        speed = 0.5 if height < HOVER_HEIGHT and away < 0.02 else 1.0
        return Goal(np.array([*start, height]), yaw, CLOSED, speed)


def wipe_mark(world: World, dt: float) -> None:
    """Let the pressed fingertips wipe the dots that they have passed."""
    del dt
    line = np.array([-np.sin(world.cube_yaw), np.cos(world.cube_yaw)])
    along = float(world.offset @ line)
    if world.position[2] < PLATE_TOP + _TIP - 0.001:
        passed = np.floor((along + _HALF_WAY - 0.010) / MARK_SPACING) / MARK_DOTS
        world.travel = float(np.clip(passed, world.travel, 1.0))


class InsertGoals(PickGoals):
    """Grasp the peg above its middle, bring it over the hole, align and lower it, let go."""

    def goal(self, world: World) -> Goal:
        """Return the goal for this state."""
        apart = world.cube - world.aim
        if not world.held and np.hypot(*apart[:2]) < 0.008 and apart[2] < 0.012:
            up = np.array([*world.aim[:2], CARRY_HEIGHT])
            return Goal(up, world.yaw, OPEN, 0.8 if world.opening > 0.055 else 0.0)
        return super().goal(world)

    def carry(self, world: World) -> Goal:
        """Return the goal with the peg in the gripper."""
        over = world.position[:2] + world.aim[:2] - world.cube[:2]
        away = float(np.hypot(*(world.cube[:2] - world.aim[:2])))
        quarter = 0.5 * np.pi
        turn = float(np.round(world.cube_yaw / quarter) * quarter - world.cube_yaw)
        yaw = world.yaw + turn
        foot = world.cube[2] - 0.5 * PEG_HEIGHT
        aligned = abs(turn) < 0.05
        deep = 0.5 * PEG_HEIGHT + PEG_GRIP + 0.002
        if away < 0.008 and foot < 0.006:
            return Goal(np.array([*over, deep]), yaw, OPEN, 0.2)
        if foot < SOCKET_HEIGHT and away < 0.012:
            return Goal(np.array([*over, deep - 0.004]), yaw, CLOSED, _INSERT_SPEED)
        if away < 0.004 and aligned:
            return Goal(np.array([*over, deep - 0.004]), yaw, CLOSED, 2 * _INSERT_SPEED)
        reach = max(0.0, foot - SOCKET_HEIGHT - 0.01) * 4.0
        share = min(1.0, reach / max(away, 1e-9))
        toward = world.position[:2] + share * (over - world.position[:2])
        height = PEG_HEIGHT * 0.5 + PEG_GRIP + SOCKET_HEIGHT + 0.035
        return Goal(np.array([*toward, height]), yaw, CLOSED, 0.8)


class TiltGoals(PickGoals):
    """Grasp the cup, bring it beside the bowl, lean it towards the robot over the bowl."""

    def yaw(self, world: World) -> float:
        """Return the yaw at which to grasp the cup, which is round."""
        del world
        return 0.0

    def carry(self, world: World) -> Goal:
        """Return the goal with the cup in the gripper."""
        # The mouth, which leans towards the robot, comes over the bowl's middle.
        place = world.aim[:2] + np.array([0.02, 0.0])
        away = float(np.hypot(*(world.position[:2] - place)))
        if away < 0.04 and world.position[2] > _POUR_HEIGHT - 0.03:
            return Goal(np.array([*place, _POUR_HEIGHT]), 0.0, CLOSED, 0.5, _POUR)
        reach = max(0.0, world.position[2] - 0.12) * 6.0
        share = min(1.0, reach / max(away, 1e-9))
        toward = world.position[:2] + share * (place - world.position[:2])
        return Goal(np.array([*toward, _POUR_HEIGHT]), 0.0, CLOSED, 0.8)
