# SPDX-License-Identifier: Apache-2.0
"""Wipe a mark off a plate."""

from __future__ import annotations

import numpy as np

from vla_sim.scene import Prop
from vla_sim.tasks.arranging import PropTask, distance, draw_point
from vla_sim.tasks.base import Arrangement, Point, SceneState

_X = (0.42, 0.60)
_Y = (-0.14, 0.14)
_MAX_YAW = 0.5
_CLEARANCE = 0.14


class Wipe(PropTask):
    """Success: all five dots of the mark are gone; each takes a force of more than 2 N."""

    name = "wipe"
    templates = (
        "wipe the mark off the plate",
        "wipe the plate clean",
        "remove the mark from the plate by wiping it",
    )
    paraphrases = ("wipe the mark away", "remove the mark")
    time_limit = 14.0
    target_range = (_X, _Y)

    def orders(self) -> tuple[tuple[str, str], ...]:
        """Return the mark."""
        return (("mark", ""),)

    def arrange_props(self, rng: np.random.Generator) -> Arrangement:
        """Draw where the plate lies."""
        place = draw_point(rng, _X, _Y)
        yaw = float(rng.uniform(-_MAX_YAW, _MAX_YAW))
        return Arrangement("mark", "", (), (Prop("plate", *place, yaw),))

    def leaves_room(self, point: Point, arrangement: Arrangement) -> bool:
        """Return whether a thing is clear of the plate."""
        return distance(point, arrangement.props[0].place) >= _CLEARANCE

    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the mark is gone."""
        del reference
        return state.travels[target] > 0.99

    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return how much of the mark is gone."""
        del reference
        return f"{100 * state.travels[target]:.0f} % of the mark wiped away"
