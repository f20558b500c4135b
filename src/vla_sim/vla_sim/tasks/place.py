# SPDX-License-Identifier: Apache-2.0
"""Place the named cube in the bowl."""

from __future__ import annotations

import numpy as np

from vla_sim.scene import BOWL_RADIUS, CUBE_SIZE
from vla_sim.tasks.base import (
    BOWL_SPACING,
    WORKSPACE_X,
    WORKSPACE_Y,
    Point,
    SceneState,
    Task,
)


class Place(Task):
    """Success: the named cube rests in the bowl, released, for 0.5 s."""

    name = "place"
    templates = (
        "put the {color} block in the bowl",
        "place the {color} cube in the bowl",
        "drop the {color} block into the bowl",
    )
    hold_time = 0.5
    open_opening = 0.055
    rest_speed = 0.05

    def draw_props(
        self, rng: np.random.Generator, named: Point
    ) -> tuple[Point | None, Point | None] | None:
        """Draw the bowl, clear of the named cube."""
        bowl = float(rng.uniform(*WORKSPACE_X)), float(rng.uniform(*WORKSPACE_Y))
        if np.hypot(bowl[0] - named[0], bowl[1] - named[1]) < BOWL_SPACING:
            return None
        return bowl, None

    def fulfilled(self, state: SceneState, target: str) -> bool:
        """Return whether the named cube rests in the bowl and the gripper has let go."""
        return (
            in_bowl(state, target)
            and state.speeds[target] < self.rest_speed
            and state.finger_contacts[target] == 0
            and state.gripper_opening > self.open_opening
        )

    def describe(self, state: SceneState, target: str) -> str:
        """Return the distance of the named cube from the middle of the bowl."""
        if state.bowl is None:
            return "no bowl"
        away = np.hypot(*(state.positions[target][:2] - state.bowl))
        return f"{target} cube {away:.3f} m from the middle of the bowl"


def in_bowl(state: SceneState, color: str) -> bool:
    """Return whether a cube is inside the bowl, low enough not to lie on its rim."""
    if state.bowl is None:
        return False
    position = state.positions[color]
    away = float(np.hypot(*(position[:2] - state.bowl)))
    return away < BOWL_RADIUS - 0.25 * CUBE_SIZE and float(position[2]) < 0.055
