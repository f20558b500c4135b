# SPDX-License-Identifier: Apache-2.0
"""Open the drawer by its handle."""

from __future__ import annotations

import numpy as np

from vla_sim.scene import Prop
from vla_sim.scene.mechanisms import CABINET_DEPTH, DRAWER_TRAVEL, HANDLE_POINT
from vla_sim.tasks.arranging import PropTask, distance_to_segment, draw_point
from vla_sim.tasks.base import Arrangement, Point, SceneState
from vla_sim.typing import FloatArray

_X = (0.60, 0.66)
_Y = (-0.14, 0.14)
_MAX_YAW = 0.35
_CLEARANCE = 0.125


class Drawer(PropTask):
    """Success: the drawer is open by more than 6 of its 10 cm. It opens towards the robot."""

    name = "drawer"
    templates = ("open the drawer", "pull the drawer open", "pull the handle of the drawer")
    paraphrases = (
        "slide the drawer open",
        "reach down and pull the drawer by the handle",
    )
    time_limit = 12.0
    target_range = (_X, _Y)
    open_travel = 0.06

    def orders(self) -> tuple[tuple[str, str], ...]:
        """Return the drawer."""
        return (("drawer", ""),)

    def arrange_props(self, rng: np.random.Generator) -> Arrangement:
        """Draw where the cabinet stands and where it faces."""
        place = draw_point(rng, _X, _Y)
        yaw = float(rng.uniform(-_MAX_YAW, _MAX_YAW))
        return Arrangement("drawer", "", (), (Prop("drawer", *place, yaw),))

    def leaves_room(self, point: Point, arrangement: Arrangement) -> bool:
        """Return whether a thing is clear of the cabinet and of the way of its handle."""
        cabinet = arrangement.props[0]
        out = CABINET_DEPTH
        front = HANDLE_POINT[0] - DRAWER_TRAVEL
        cos, sin = np.cos(cabinet.yaw), np.sin(cabinet.yaw)
        start = (cabinet.x + 0.5 * out * cos, cabinet.y + 0.5 * out * sin)
        end = (cabinet.x + front * cos, cabinet.y + front * sin)
        return distance_to_segment(point, start, end) >= _CLEARANCE

    def aim(self, state: SceneState, target: str, reference: str) -> FloatArray | None:
        """Return where the gap behind the handle will be when the drawer is open."""
        del reference
        left = DRAWER_TRAVEL - state.travels[target]
        yaw = state.yaws[target]
        return state.positions[target] - left * np.array([np.cos(yaw), np.sin(yaw), 0.0])

    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the drawer is open."""
        del reference
        return state.travels[target] > self.open_travel

    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return how far the drawer is open."""
        del reference
        return f"drawer open by {state.travels[target]:.3f} m"
