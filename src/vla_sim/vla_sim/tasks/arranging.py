# SPDX-License-Identifier: Apache-2.0
"""How scenes are drawn: cubes around a named one, or cubes beside props."""

from __future__ import annotations

import abc
from dataclasses import replace

import numpy as np

from vla_sim.scene import COLORS, CubePose
from vla_sim.tasks.base import (
    BOWL_SPACING,
    CUBE_SPACING,
    MAX_YAW,
    WORKSPACE_X,
    WORKSPACE_Y,
    Arrangement,
    Point,
    Task,
)


class CubeTask(Task):
    """A task with a named cube, two or three others, and props drawn around the named one."""

    def orders(self) -> tuple[tuple[str, str], ...]:
        """Return every colour."""
        return tuple((color, "") for color in COLORS)

    def arrange(self, rng: np.random.Generator) -> Arrangement:
        """Draw the named cube, the props, and the other cubes where they leave room."""
        colors = [str(color) for color in rng.permutation(list(COLORS))]
        colors = colors[: int(rng.integers(3, 5))]
        while True:
            named = draw_point(rng)
            arrangement = self.arrange_around(rng, named, colors)
            if arrangement is None:
                continue
            places = [named]
            for _ in range(200):
                if len(places) == len(colors):
                    cubes = tuple(
                        CubePose(color, x, y, float(rng.uniform(-MAX_YAW, MAX_YAW)))
                        for color, (x, y) in zip(colors, places, strict=True)
                    )
                    return replace(arrangement, cubes=cubes)
                point = draw_point(rng)
                apart = all(distance(point, other) >= CUBE_SPACING for other in places)
                if apart and self.leaves_room(point, arrangement):
                    places.append(point)

    def arrange_around(
        self, rng: np.random.Generator, named: Point, colors: list[str]
    ) -> Arrangement | None:
        """Draw props for a named cube at ``named``; None = this cube has no room.

        The arrangement holds the named cube alone, at any yaw.
        """
        del rng
        return Arrangement(colors[0], "", (CubePose(colors[0], *named, 0.0),))

    def leaves_room(self, point: Point, arrangement: Arrangement) -> bool:
        """Return whether a thing at ``point`` is clear of the bowl."""
        return all(
            distance(point, prop.place) >= BOWL_SPACING
            for prop in arrangement.props
            if prop.name == "bowl"
        )


class PropTask(Task):
    """A task about props, with one or two cubes that have nothing to do with it.

    Attributes:
        cube_counts: Least and largest number of cubes.
    """

    cube_counts = (1, 2)

    @abc.abstractmethod
    def arrange_props(self, rng: np.random.Generator) -> Arrangement:
        """Draw the props, and what of them is named."""

    def arrange(self, rng: np.random.Generator) -> Arrangement:
        """Draw the props, then cubes where they leave room."""
        arrangement = self.arrange_props(rng)
        colors = [str(color) for color in rng.permutation(list(COLORS))]
        least, most = self.cube_counts
        wanted = int(rng.integers(least, most + 1))
        cubes: list[CubePose] = []
        for _ in range(200):
            if len(cubes) == wanted:
                break
            point = draw_point(rng)
            apart = all(distance(point, (cube.x, cube.y)) >= CUBE_SPACING for cube in cubes)
            if apart and self.leaves_room(point, arrangement):
                yaw = float(rng.uniform(-MAX_YAW, MAX_YAW))
                cubes.append(CubePose(colors[len(cubes)], *point, yaw))
        return replace(arrangement, cubes=tuple(cubes))


def draw_point(rng: np.random.Generator, x: Point = WORKSPACE_X, y: Point = WORKSPACE_Y) -> Point:
    """Draw a point in a rectangle, m."""
    return float(rng.uniform(*x)), float(rng.uniform(*y))


def distance(a: Point, b: Point) -> float:
    """Return the distance of two points, m."""
    return float(np.hypot(a[0] - b[0], a[1] - b[1]))


def distance_to_segment(point: Point, start: Point, end: Point) -> float:
    """Return the distance of a point from the segment between two others, m."""
    p, a, b = (np.array(v) for v in (point, start, end))
    share = np.clip(np.dot(p - a, b - a) / np.dot(b - a, b - a), 0.0, 1.0)
    return float(np.linalg.norm(a + share * (b - a) - p))
