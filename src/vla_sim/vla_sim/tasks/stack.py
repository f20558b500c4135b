# SPDX-License-Identifier: Apache-2.0
"""Put one named cube on another named one."""

from __future__ import annotations

import numpy as np

from vla_sim.scene import COLORS, CUBE_SIZE, CubePose
from vla_sim.tasks.arranging import CubeTask
from vla_sim.tasks.base import Arrangement, Point, SceneState
from vla_sim.tasks.place import released
from vla_sim.typing import FloatArray


class Stack(CubeTask):
    """Success: the named cube rests on the other one, released, for 0.5 s."""

    name = "stack"
    templates = (
        "stack the {target} block on the {reference} block",
        "put the {target} cube on top of the {reference} cube",
        "place the {target} block on the {reference} one",
    )
    paraphrases = (
        "move the {target} block onto the {reference} block",
        "pick up the {target} cube and put it on the {reference} cube",
    )
    hold_time = 0.5
    time_limit = 18.0
    grasps = True

    def orders(self) -> tuple[tuple[str, str], ...]:
        """Return every pair of two colours."""
        return tuple((one, other) for one in COLORS for other in COLORS if one != other)

    def arrange_around(
        self, rng: np.random.Generator, named: Point, colors: list[str]
    ) -> Arrangement | None:
        """Name the second cube as well."""
        del rng
        return Arrangement(colors[0], colors[1], (CubePose(colors[0], *named, 0.0),))

    def aim(self, state: SceneState, target: str, reference: str) -> FloatArray | None:
        """Return where the centre of the named cube comes to rest on the other one."""
        del target
        if reference not in state.positions:
            return None
        x, y, z = state.positions[reference]
        return np.array([x, y, z + CUBE_SIZE])

    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the named cube rests on the other one, which stands on the table."""
        if reference not in state.positions or state.positions[reference][2] > 0.6 * CUBE_SIZE:
            return False
        across, up = _offset(state, target, reference)
        on_top = across < 0.5 * CUBE_SIZE and abs(up - CUBE_SIZE) < 0.006
        return bool(on_top and released(state, target))

    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return where the named cube is relative to the other one."""
        if reference not in state.positions:
            return f"no {reference} cube"
        across, up = _offset(state, target, reference)
        return f"{target} cube {across:.3f} m beside and {up:.3f} m above the {reference} one"


def _offset(state: SceneState, target: str, reference: str) -> tuple[float, float]:
    """Return the horizontal distance and the rise from the one cube to the other, m."""
    apart = state.positions[target] - state.positions[reference]
    return float(np.hypot(*apart[:2])), float(apart[2])
