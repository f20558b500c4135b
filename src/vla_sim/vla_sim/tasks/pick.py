# SPDX-License-Identifier: Apache-2.0
"""Pick up the named cube."""

from __future__ import annotations

from vla_sim.scene import CUBE_SIZE
from vla_sim.tasks.arranging import CubeTask
from vla_sim.tasks.base import SceneState


class Pick(CubeTask):
    """Success: the named cube is held more than 8 cm above the table for 0.5 s."""

    name = "pick"
    templates = (
        "pick up the {target} block",
        "lift the {target} block",
        "grab the {target} cube and raise it",
    )
    paraphrases = (
        "raise the {target} block",
        "grab the {target} block and lift it",
    )
    hold_time = 0.5
    grasps = True
    lift_height = 0.08

    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the named cube is up in the gripper."""
        del reference
        return (
            height_above_table(state, target) > self.lift_height
            and state.finger_contacts[target] == 2
        )

    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return the height of the named cube."""
        del reference
        return f"{target} cube at {height_above_table(state, target):.3f} m above the table"


def height_above_table(state: SceneState, color: str) -> float:
    """Return how far a cube is above where it rests on the table, m."""
    return float(state.positions[color][2]) - 0.5 * CUBE_SIZE
