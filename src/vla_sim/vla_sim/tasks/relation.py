# SPDX-License-Identifier: Apache-2.0
"""Put the named cube on a named side of the bowl, as seen from the robot."""

from __future__ import annotations

import numpy as np

from vla_sim.scene import COLORS, CUBE_SIZE, CubePose, Prop
from vla_sim.tasks.arranging import CubeTask, distance, draw_point
from vla_sim.tasks.base import BOWL_SPACING, CUBE_SPACING, Arrangement, Point, SceneState
from vla_sim.tasks.place import released
from vla_sim.typing import FloatArray

# Directions as the robot sees them, in the base frame, whose x points away from it and y to its
# left: what is in front of the bowl is between robot and bowl, what is behind it is beyond.
SIDES: dict[str, tuple[float, float]] = {
    "to the left of": (0.0, 1.0),
    "to the right of": (0.0, -1.0),
    "in front of": (-1.0, 0.0),
    "behind": (1.0, 0.0),
}
# The bowl stands where every side of it is within reach, m.
_BOWL_X = (0.46, 0.56)
_BOWL_Y = (-0.09, 0.09)
_AWAY = 0.125
_NEAREST, _FURTHEST = 0.085, 0.20
_HALF_SECTOR = np.deg2rad(45.0)


class Relation(CubeTask):
    """Success: the named cube rests on the table on the named side of the bowl, for 0.5 s.

    Its centre is 8.5 to 20 cm from the bowl's, within 45 degrees of the side's direction as seen
    from the robot, and the gripper has let go.
    """

    name = "relation"
    templates = (
        "put the {target} block {reference} the bowl",
        "place the {target} cube {reference} the bowl",
        "move the {target} block so that it is {reference} the bowl",
    )
    paraphrases = (
        "pick up the {target} block and place it {reference} the bowl",
        "drop the {target} cube {reference} the bowl",
    )
    hold_time = 0.5
    time_limit = 18.0
    grasps = True

    def orders(self) -> tuple[tuple[str, str], ...]:
        """Return every colour at every side."""
        return tuple((color, side) for color in COLORS for side in SIDES)

    def arrange_around(
        self, rng: np.random.Generator, named: Point, colors: list[str]
    ) -> Arrangement | None:
        """Draw the bowl, clear of the named cube, and a side that the cube is not on yet."""
        bowl = draw_point(rng, _BOWL_X, _BOWL_Y)
        side = list(SIDES)[int(rng.integers(len(SIDES)))]
        if distance(bowl, named) < BOWL_SPACING or _on_side(named, bowl, side):
            return None
        cube = CubePose(colors[0], *named, 0.0)
        return Arrangement(colors[0], side, (cube,), (Prop("bowl", *bowl),))

    def leaves_room(self, point: Point, arrangement: Arrangement) -> bool:
        """Return whether a thing is clear of the bowl and of where the cube goes."""
        goal = beside(arrangement.props[0].place, arrangement.reference)
        return super().leaves_room(point, arrangement) and distance(point, goal) >= CUBE_SPACING

    def aim(self, state: SceneState, target: str, reference: str) -> FloatArray | None:
        """Return where the named cube goes."""
        del target
        if state.bowl is None:
            return None
        return np.array([*beside(state.bowl, reference), 0.5 * CUBE_SIZE])

    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the named cube lies on the named side, released."""
        if state.bowl is None or state.positions[target][2] > 0.6 * CUBE_SIZE:
            return False
        place = float(state.positions[target][0]), float(state.positions[target][1])
        return _on_side(place, state.bowl, reference) and released(state, target)

    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return where the named cube is relative to the bowl."""
        del reference
        if state.bowl is None:
            return "no bowl"
        x, y = state.positions[target][:2] - state.bowl
        return f"{target} cube {x:.3f} m beyond and {y:.3f} m to the left of the bowl"


def beside(bowl: Point, side: str) -> Point:
    """Return the middle (x, y) of where a cube goes on a side of the bowl, m."""
    x, y = SIDES[side]
    return bowl[0] + _AWAY * x, bowl[1] + _AWAY * y


def _on_side(place: Point, bowl: Point, side: str) -> bool:
    away = distance(place, bowl)
    along = (place[0] - bowl[0]) * SIDES[side][0] + (place[1] - bowl[1]) * SIDES[side][1]
    return bool(_NEAREST <= away <= _FURTHEST and along > away * np.cos(_HALF_SECTOR))
