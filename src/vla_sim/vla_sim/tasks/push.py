# SPDX-License-Identifier: Apache-2.0
"""Push the named cube to the zone."""

from __future__ import annotations

import numpy as np

from vla_sim.scene import ZONE_RADIUS
from vla_sim.tasks.base import CUBE_SPACING, Point, SceneState, Task, distance_to_segment

_PUSH_DISTANCE = (0.10, 0.15)
_MAX_PUSH_ANGLE = np.deg2rad(50.0)
_MAX_ZONE_Y = 0.25
_RUN_UP = 0.09
_PATH_CLEARANCE = 0.08


class Push(Task):
    """Success: the centre of the named cube is inside the zone.

    The zone lies away from the robot, up to 50 degrees to either side, so the gripper always pushes
    outwards.
    """

    name = "push"
    templates = (
        "push the {color} block to the zone",
        "slide the {color} block into the pink zone",
        "move the {color} cube onto the marked area by pushing it",
    )

    def draw_props(
        self, rng: np.random.Generator, named: Point
    ) -> tuple[Point | None, Point | None] | None:
        """Draw the zone at a moderate distance outwards from the named cube."""
        distance = rng.uniform(*_PUSH_DISTANCE)
        angle = rng.uniform(-_MAX_PUSH_ANGLE, _MAX_PUSH_ANGLE)
        zone = (
            float(named[0] + distance * np.cos(angle)),
            float(named[1] + distance * np.sin(angle)),
        )
        return None if abs(zone[1]) > _MAX_ZONE_Y else (None, zone)

    def leaves_room(
        self, cube: Point, named: Point, bowl: Point | None, zone: Point | None
    ) -> bool:
        """Return whether a distractor is clear of the gripper's path and of the zone."""
        del bowl
        if zone is None:
            return True
        start, end = np.array(named), np.array(zone)
        run_up = start - _RUN_UP * (end - start) / np.linalg.norm(end - start)
        path = distance_to_segment(cube, (float(run_up[0]), float(run_up[1])), zone)
        away = np.hypot(cube[0] - zone[0], cube[1] - zone[1])
        return path >= _PATH_CLEARANCE and away >= max(CUBE_SPACING, ZONE_RADIUS + 0.04)

    def fulfilled(self, state: SceneState, target: str) -> bool:
        """Return whether the centre of the named cube is inside the zone."""
        return distance_to_zone(state, target) < ZONE_RADIUS

    def describe(self, state: SceneState, target: str) -> str:
        """Return the distance of the named cube from the middle of the zone."""
        return f"{target} cube {distance_to_zone(state, target):.3f} m from the middle of the zone"


def distance_to_zone(state: SceneState, color: str) -> float:
    """Return the horizontal distance of a cube's centre from the zone's, m; inf without a zone."""
    if state.zone is None:
        return float("inf")
    return float(np.hypot(*(state.positions[color][:2] - state.zone)))
