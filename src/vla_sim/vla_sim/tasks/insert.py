# SPDX-License-Identifier: Apache-2.0
"""Put the peg into the hole."""

from __future__ import annotations

import numpy as np

from vla_sim.scene import Prop
from vla_sim.scene.tools import PEG_HEIGHT
from vla_sim.tasks.arranging import PropTask, distance, draw_point
from vla_sim.tasks.base import MAX_YAW, Arrangement, Point, SceneState
from vla_sim.typing import FloatArray

_X = (0.38, 0.62)
_Y = (-0.18, 0.18)
_SPACING = 0.16
_CLEARANCE = 0.12


class Insert(PropTask):
    """Success: the peg stands in the hole, its foot within 12 mm of the bottom, for 0.3 s.

    The hole is 3 mm wider than the square peg of 24 mm, and chamfered by 6 mm.
    """

    name = "insert"
    templates = (
        "put the peg into the hole",
        "insert the peg into the hole",
        "pick up the pink peg and put it in the hole",
    )
    paraphrases = ("move the peg into the hole", "place the pink peg in the hole")
    hold_time = 0.3
    time_limit = 18.0
    grasps = True
    target_range = (_X, _Y)
    inserted_height = 0.012

    def orders(self) -> tuple[tuple[str, str], ...]:
        """Return the peg."""
        return (("peg", ""),)

    def arrange_props(self, rng: np.random.Generator) -> Arrangement:
        """Draw where peg and hole stand; the hole's sides are along the base's axes."""
        while True:
            peg, socket = draw_point(rng, _X, _Y), draw_point(rng, _X, _Y)
            if distance(peg, socket) >= _SPACING:
                yaw = float(rng.uniform(-MAX_YAW, MAX_YAW))
                return Arrangement("peg", "", (), (Prop("peg", *peg, yaw), Prop("socket", *socket)))

    def leaves_room(self, point: Point, arrangement: Arrangement) -> bool:
        """Return whether a thing is clear of peg and hole."""
        return all(distance(point, prop.place) >= _CLEARANCE for prop in arrangement.props)

    def aim(self, state: SceneState, target: str, reference: str) -> FloatArray | None:
        """Return where the middle of the inserted peg is."""
        del target, reference
        socket = state.places.get("socket")
        return None if socket is None else np.array([*socket, 0.5 * PEG_HEIGHT])

    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the peg is in the hole."""
        del reference
        socket = state.places.get("socket")
        if socket is None:
            return False
        x, y, z = state.positions[target]
        return bool(
            np.hypot(x - socket[0], y - socket[1]) < 0.006
            and z - 0.5 * PEG_HEIGHT < self.inserted_height
            and state.tilts[target] < 0.15
        )

    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return how high the peg's foot is."""
        del reference
        foot = float(state.positions[target][2]) - 0.5 * PEG_HEIGHT
        return f"foot of the peg at {1e3 * foot:.0f} mm"
