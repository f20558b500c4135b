# SPDX-License-Identifier: Apache-2.0
"""Push the named cube to the zone."""

from __future__ import annotations

import numpy as np

from vla_sim.scene import CUBE_SIZE, ZONE_RADIUS, CubePose, Prop
from vla_sim.tasks.arranging import CubeTask, distance, distance_to_segment
from vla_sim.tasks.base import CUBE_SPACING, Arrangement, Point, SceneState
from vla_sim.typing import FloatArray

_PUSH_DISTANCE = (0.10, 0.15)
_MAX_PUSH_ANGLE = np.deg2rad(50.0)
_MAX_ZONE_Y = 0.25
_RUN_UP = 0.09
_PATH_CLEARANCE = 0.08


class Push(CubeTask):
    """Success: the centre of the named cube is inside the zone.

    The zone lies away from the robot, up to 50 degrees to either side, so the gripper always pushes
    outwards.
    """

    name = "push"
    templates = (
        "push the {target} block to the zone",
        "slide the {target} block into the pink zone",
        "move the {target} cube onto the marked area by pushing it",
    )
    paraphrases = (
        "push the {target} cube onto the marked area",
        "slide the {target} cube to the pink area",
    )
    time_limit = 14.0

    def arrange_around(
        self, rng: np.random.Generator, named: Point, colors: list[str]
    ) -> Arrangement | None:
        """Draw the zone at a moderate distance outwards from the named cube."""
        away = rng.uniform(*_PUSH_DISTANCE)
        angle = rng.uniform(-_MAX_PUSH_ANGLE, _MAX_PUSH_ANGLE)
        zone = (
            float(named[0] + away * np.cos(angle)),
            float(named[1] + away * np.sin(angle)),
        )
        if abs(zone[1]) > _MAX_ZONE_Y:
            return None
        cube = CubePose(colors[0], *named, 0.0)
        return Arrangement(colors[0], "", (cube,), (Prop("zone", *zone),))

    def leaves_room(self, point: Point, arrangement: Arrangement) -> bool:
        """Return whether a thing is clear of the gripper's path and of the zone."""
        cube, zone = arrangement.cubes[0], arrangement.props[0].place
        start, end = np.array([cube.x, cube.y]), np.array(zone)
        run_up = start - _RUN_UP * (end - start) / np.linalg.norm(end - start)
        path = distance_to_segment(point, (float(run_up[0]), float(run_up[1])), zone)
        return path >= _PATH_CLEARANCE and distance(point, zone) >= max(
            CUBE_SPACING, ZONE_RADIUS + 0.04
        )

    def aim(self, state: SceneState, target: str, reference: str) -> FloatArray | None:
        """Return the middle of the zone."""
        del target, reference
        return None if state.zone is None else np.array([*state.zone, 0.5 * CUBE_SIZE])

    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the centre of the named cube is inside the zone."""
        del reference
        return distance_to_zone(state, target) < ZONE_RADIUS

    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return the distance of the named cube from the middle of the zone."""
        del reference
        return f"{target} cube {distance_to_zone(state, target):.3f} m from the middle of the zone"


def distance_to_zone(state: SceneState, color: str) -> float:
    """Return the horizontal distance of a cube's centre from the zone's, m; inf without a zone."""
    if state.zone is None:
        return float("inf")
    return float(np.hypot(*(state.positions[color][:2] - state.zone)))
