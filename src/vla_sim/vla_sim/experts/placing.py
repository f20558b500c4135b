# SPDX-License-Identifier: Apache-2.0
"""Goals of the tasks that pick a cube up and set it down somewhere."""

from __future__ import annotations

import abc

import numpy as np

from vla_sim.experts.goals import CLOSED, OPEN, PickGoals
from vla_sim.experts.world import Goal, World

CARRY_HEIGHT = 0.16


class PlacingGoals(PickGoals, abc.ABC):
    """Pick up, carry over the aim, lower, let go, rise.

    Attributes:
        release_height: Of the tool when it lets go, m.
        release_margin: It lets go up to this much higher, m.
        tolerance: Horizontal distance from the aim at which it lowers, m.
    """

    release_height: float
    release_margin: float
    tolerance: float

    def goal(self, world: World) -> Goal:
        """Return the goal for this state."""
        if not world.held and self.settled(world):
            up = np.array([*world.aim[:2], CARRY_HEIGHT])
            return Goal(up, world.yaw, OPEN, 0.8 if world.opening > 0.055 else 0.0)
        return super().goal(world)

    @abc.abstractmethod
    def settled(self, world: World) -> bool:
        """Return whether the cube is where it shall be, unless it is still held."""

    def carry(self, world: World) -> Goal:
        """Return the goal with the cube in the gripper."""
        away = float(np.hypot(*(world.position[:2] - world.aim[:2])))
        down = np.array([*world.aim[:2], self.release_height])
        if away < self.tolerance and world.position[2] < self.release_height + self.release_margin:
            return Goal(down, world.yaw, OPEN, 0.3)
        if away < self.tolerance:
            return Goal(down, world.yaw, CLOSED, 0.6)
        # Rises before it travels: the higher the tool, the further ahead its goal may lie.
        reach = max(0.0, world.position[2] - 0.07) * 4.0
        share = min(1.0, reach / max(away, 1e-9))
        toward = world.position[:2] + share * (world.aim[:2] - world.position[:2])
        return Goal(np.array([*toward, CARRY_HEIGHT]), world.yaw, CLOSED, 0.9)


class PlaceGoals(PlacingGoals):
    """Let go above the bowl."""

    release_height = 0.075
    release_margin = 0.012
    tolerance = 0.02

    def settled(self, world: World) -> bool:
        """Return whether the cube is over the bowl."""
        return bool(np.hypot(*(world.cube[:2] - world.aim[:2])) < 0.05)


class StackGoals(PlacingGoals):
    """Let go on the other cube."""

    release_height = 0.061
    release_margin = 0.0035
    tolerance = 0.006

    def settled(self, world: World) -> bool:
        """Return whether the cube is on the other one."""
        apart = world.cube - world.aim
        return bool(np.hypot(*apart[:2]) < 0.018 and abs(apart[2]) < 0.008)


class RelationGoals(PlacingGoals):
    """Let go on the table."""

    release_height = 0.022
    release_margin = 0.004
    tolerance = 0.02

    def settled(self, world: World) -> bool:
        """Return whether the cube lies at its aim."""
        apart = world.cube - world.aim
        return bool(np.hypot(*apart[:2]) < 0.03 and abs(apart[2]) < 0.01)
