# SPDX-License-Identifier: Apache-2.0
"""Touch a target that moves, and stay on it."""

from __future__ import annotations

import numpy as np

from vla_sim.scene import Prop
from vla_sim.scene.mechanisms import PUCK_ORBIT, PUCK_RADIUS
from vla_sim.tasks.arranging import PropTask, distance, draw_point
from vla_sim.tasks.base import Arrangement, Point, SceneState
from vla_sim.typing import FloatArray

_X = (0.46, 0.54)
_Y = (-0.08, 0.08)
_CLEARANCE = 0.17
# Of the puck, m/s.
SPEED = (0.03, 0.09)


class Follow(PropTask):
    """Success: the closed fingertips stay on the moving puck, within 2 mm of its top, for 0.6 s.

    A turntable carries the puck round anticlockwise on a circle of 8.5 cm at a constant speed of 3
    to 9 cm/s, drawn per scene. One picture does not tell the speed: where the puck is has to be
    seen again and again.
    """

    name = "follow"
    templates = (
        "touch the orange puck and follow it",
        "put your fingertips on the moving puck",
        "follow the orange puck with your fingertips",
    )
    paraphrases = ("touch the moving puck", "put your fingertips on the orange puck and follow it")
    hold_time = 0.6
    time_limit = 12.0
    target_range = (_X, _Y)
    closed_opening = 0.02
    # Of the tool above the puck's top, m: its fingertips, 9.5 mm below it, are within 2 mm. Sliding
    # contact chatters and would not do as a criterion.
    tool_height = 0.0115

    def orders(self) -> tuple[tuple[str, str], ...]:
        """Return the puck."""
        return (("puck", ""),)

    def arrange_props(self, rng: np.random.Generator) -> Arrangement:
        """Draw the turntable, where the puck begins and how fast it moves."""
        place = draw_point(rng, _X, _Y)
        phase, speed = float(rng.uniform(-np.pi, np.pi)), float(rng.uniform(*SPEED))
        prop = Prop("turntable", *place, joint=phase, speed=speed / PUCK_ORBIT)
        return Arrangement("puck", "", (), (prop,))

    def leaves_room(self, point: Point, arrangement: Arrangement) -> bool:
        """Return whether a thing is clear of the turntable."""
        return distance(point, arrangement.props[0].place) >= _CLEARANCE

    def aim(self, state: SceneState, target: str, reference: str) -> FloatArray | None:
        """Return the middle of the turntable, about which the puck moves."""
        del reference
        x, y, z = state.positions[target]
        angle = state.yaws[target]
        return np.array([x - PUCK_ORBIT * np.cos(angle), y - PUCK_ORBIT * np.sin(angle), z])

    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the closed fingertips are on the puck."""
        del reference
        apart = state.tool_position - state.positions[target]
        on_top = 0.0 < apart[2] < self.tool_height and np.hypot(*apart[:2]) < PUCK_RADIUS
        return bool(on_top and state.gripper_opening < self.closed_opening)

    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return how far the tool is from the puck."""
        del reference
        away = float(np.linalg.norm(state.tool_position - state.positions[target]))
        return f"tool {away:.3f} m from the puck"
