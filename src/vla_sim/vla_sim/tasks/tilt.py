# SPDX-License-Identifier: Apache-2.0
"""Tilt a held cup over the bowl, as if to pour."""

from __future__ import annotations

import numpy as np

from vla_sim.scene import BOWL_RADIUS, Prop
from vla_sim.scene.tools import CUP_HEIGHT
from vla_sim.tasks.arranging import PropTask, distance, draw_point
from vla_sim.tasks.base import Arrangement, Point, SceneState
from vla_sim.typing import FloatArray

_X = (0.40, 0.60)
_Y = (-0.16, 0.16)
_SPACING = 0.17
_CLEARANCE = 0.14


class Tilt(PropTask):
    """Success: the held cup leans by more than 40 degrees, its mouth over the bowl, for 0.4 s."""

    name = "tilt"
    templates = (
        "pour the cup into the bowl",
        "tilt the cup over the bowl",
        "pick up the cup and pour it into the bowl",
    )
    paraphrases = ("grab the cup and tilt it over the bowl", "pour it into the bowl")
    hold_time = 0.4
    time_limit = 18.0
    grasps = True
    target_range = (_X, _Y)
    tilt = float(np.deg2rad(40.0))

    def orders(self) -> tuple[tuple[str, str], ...]:
        """Return the cup."""
        return (("cup", ""),)

    def arrange_props(self, rng: np.random.Generator) -> Arrangement:
        """Draw where cup and bowl stand."""
        while True:
            cup, bowl = draw_point(rng, _X, _Y), draw_point(rng, _X, _Y)
            if distance(cup, bowl) >= _SPACING:
                yaw = float(rng.uniform(-np.pi, np.pi))
                return Arrangement("cup", "", (), (Prop("cup", *cup, yaw), Prop("bowl", *bowl)))

    def leaves_room(self, point: Point, arrangement: Arrangement) -> bool:
        """Return whether a thing is clear of cup and bowl."""
        return all(distance(point, prop.place) >= _CLEARANCE for prop in arrangement.props)

    def aim(self, state: SceneState, target: str, reference: str) -> FloatArray | None:
        """Return the middle of the bowl."""
        del target, reference
        return None if state.bowl is None else np.array([*state.bowl, 0.0])

    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the cup is held and tilted, with its mouth over the bowl."""
        del reference
        if state.bowl is None or state.finger_contacts[target] < 2:
            return False
        mouth = state.positions[target] + CUP_HEIGHT * state.axes[target]
        over = np.hypot(*(mouth[:2] - state.bowl)) < BOWL_RADIUS and mouth[2] > 0.05
        return bool(over and state.tilts[target] > self.tilt)

    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return how far the cup leans."""
        del reference
        return f"cup leans by {np.rad2deg(state.tilts[target]):.0f} degrees"
