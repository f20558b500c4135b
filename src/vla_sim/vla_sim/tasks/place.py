# SPDX-License-Identifier: Apache-2.0
"""Place the named cube in the bowl."""

from __future__ import annotations

import numpy as np

from vla_sim.scene import BOWL_RADIUS, CUBE_SIZE, CubePose, Prop
from vla_sim.tasks.arranging import CubeTask, distance, draw_point
from vla_sim.tasks.base import BOWL_SPACING, Arrangement, Point, SceneState
from vla_sim.typing import FloatArray

# With the gripper open so far, an object has been let go.
OPEN_OPENING = 0.055
# An object slower than this is at rest, m/s.
REST_SPEED = 0.05


class Place(CubeTask):
    """Success: the named cube rests in the bowl, released, for 0.5 s."""

    name = "place"
    templates = (
        "put the {target} block in the bowl",
        "place the {target} cube in the bowl",
        "drop the {target} block into the bowl",
    )
    paraphrases = (
        "move the {target} cube into the bowl",
        "pick up the {target} block and drop it in the bowl",
    )
    hold_time = 0.5
    time_limit = 18.0
    grasps = True

    def arrange_around(
        self, rng: np.random.Generator, named: Point, colors: list[str]
    ) -> Arrangement | None:
        """Draw the bowl, clear of the named cube."""
        bowl = draw_point(rng)
        if distance(bowl, named) < BOWL_SPACING:
            return None
        cube = CubePose(colors[0], *named, 0.0)
        return Arrangement(colors[0], "", (cube,), (Prop("bowl", *bowl),))

    def aim(self, state: SceneState, target: str, reference: str) -> FloatArray | None:
        """Return the middle of the bowl."""
        del target, reference
        return None if state.bowl is None else np.array([*state.bowl, 0.5 * CUBE_SIZE])

    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the named cube rests in the bowl and the gripper has let go."""
        del reference
        return in_bowl(state, target) and released(state, target)

    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return the distance of the named cube from the middle of the bowl."""
        del reference
        if state.bowl is None:
            return "no bowl"
        away = np.hypot(*(state.positions[target][:2] - state.bowl))
        return f"{target} cube {away:.3f} m from the middle of the bowl"


def released(state: SceneState, target: str, reference: str = "") -> bool:
    """Return whether an object is at rest and the gripper has let go of it."""
    return (
        state.speeds[target] < REST_SPEED
        and state.finger_contacts[target] == 0
        and state.gripper_opening > OPEN_OPENING
    )


def in_bowl(state: SceneState, color: str) -> bool:
    """Return whether a cube is inside the bowl, low enough not to lie on its rim."""
    if state.bowl is None:
        return False
    position = state.positions[color]
    away = float(np.hypot(*(position[:2] - state.bowl)))
    return away < BOWL_RADIUS - 0.25 * CUBE_SIZE and float(position[2]) < 0.055
