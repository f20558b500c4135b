# SPDX-License-Identifier: Apache-2.0
"""Press the button of a named colour."""

from __future__ import annotations

import numpy as np

from vla_sim.scene import COLORS, Prop
from vla_sim.tasks.arranging import PropTask, distance, draw_point
from vla_sim.tasks.base import CUBE_SPACING, Arrangement, Point, SceneState

_SPACING = 0.10


class Button(PropTask):
    """Success: the named button is pressed by more than 6 of its 10 mm, and none before it."""

    name = "button"
    templates = (
        "press the {target}",
        "push the {target} down",
        "press down on the {target}",
    )
    paraphrases = (
        "reach down and press the {target}",
        "put your fingertips on the {target} and push it down",
    )
    time_limit = 8.0
    pressed_travel = 0.006
    # Nothing else on the table shows a button's colour.
    cube_counts = (0, 0)

    def orders(self) -> tuple[tuple[str, str], ...]:
        """Return the button of every colour."""
        return tuple((f"{color} button", "") for color in COLORS)

    def arrange_props(self, rng: np.random.Generator) -> Arrangement:
        """Draw three or four buttons."""
        colors = [str(color) for color in rng.permutation(list(COLORS))]
        colors = colors[: int(rng.integers(3, 5))]
        places: list[Point] = []
        while len(places) < len(colors):
            point = draw_point(rng)
            if all(distance(point, other) >= _SPACING for other in places):
                places.append(point)
        props = tuple(
            Prop(f"button_{color}", *place) for color, place in zip(colors, places, strict=True)
        )
        return Arrangement(f"{colors[0]} button", "", (), props)

    def leaves_room(self, point: Point, arrangement: Arrangement) -> bool:
        """Return whether a thing is clear of the buttons."""
        return all(distance(point, prop.place) >= CUBE_SPACING for prop in arrangement.props)

    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the named button is pressed, and was the first that a finger touched."""
        del reference
        return state.first_touched == target and state.travels[target] > self.pressed_travel

    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return how far the named button is pressed."""
        del reference
        return f"{target} pressed by {1e3 * state.travels[target]:.1f} mm"
