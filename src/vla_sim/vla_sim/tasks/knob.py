# SPDX-License-Identifier: Apache-2.0
"""Turn the knob to a named side."""

from __future__ import annotations

import numpy as np

from vla_sim.scene import Prop
from vla_sim.tasks.arranging import PropTask, distance, draw_point
from vla_sim.tasks.base import Arrangement, Point, SceneState
from vla_sim.typing import FloatArray

# Directions as seen from above: to the left is anticlockwise.
SIDES = {"to the left": 1.0, "to the right": -1.0}
_X = (0.42, 0.60)
_Y = (-0.15, 0.15)
_MAX_YAW = 0.22
_CLEARANCE = 0.12


class Knob(PropTask):
    """Success: the knob is turned by more than 40 degrees to the named side, seen from above."""

    name = "knob"
    templates = (
        "turn the knob {reference}",
        "grab the knob and turn it {reference}",
        "rotate the knob {reference}",
    )
    paraphrases = ("reach down and turn the knob {reference}", "move the knob {reference}")
    target_range = (_X, _Y)
    turned_travel = float(np.deg2rad(40.0))

    def orders(self) -> tuple[tuple[str, str], ...]:
        """Return the knob with either side."""
        return tuple(("knob", side) for side in SIDES)

    def arrange_props(self, rng: np.random.Generator) -> Arrangement:
        """Draw where the knob stands, where it points, and the side."""
        place = draw_point(rng, _X, _Y)
        side = list(SIDES)[int(rng.integers(len(SIDES)))]
        yaw = float(rng.uniform(-_MAX_YAW, _MAX_YAW))
        return Arrangement("knob", side, (), (Prop("knob", *place, yaw),))

    def leaves_room(self, point: Point, arrangement: Arrangement) -> bool:
        """Return whether a thing is clear of the knob."""
        return distance(point, arrangement.props[0].place) >= _CLEARANCE

    def aim(self, state: SceneState, target: str, reference: str) -> FloatArray | None:
        """Return a point on the side that the knob shall be turned to."""
        x, y, z = state.positions[target]
        return np.array([x, y + SIDES[reference], z])

    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the knob is turned."""
        return state.travels[target] * SIDES[reference] > self.turned_travel

    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return how far the knob is turned."""
        del reference
        return f"knob turned by {np.rad2deg(state.travels[target]):.0f} degrees"
