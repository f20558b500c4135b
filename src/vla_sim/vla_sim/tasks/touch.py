# SPDX-License-Identifier: Apache-2.0
"""Touch the named cube from above with the closed fingertips."""

from __future__ import annotations

from vla_sim.tasks.arranging import CubeTask
from vla_sim.tasks.base import SceneState


class Touch(CubeTask):
    """Success: the first cube touched is the named one, from above, with the gripper closed."""

    name = "touch"
    templates = (
        "touch the {target} block",
        "put your fingertips on the {target} block",
        "reach down and touch the {target} cube",
    )
    paraphrases = (
        "put your fingertips down on the {target} cube",
        "reach the {target} block and touch it",
    )
    time_limit = 8.0
    closed_opening = 0.02

    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the closed gripper touches the named cube, and touched no other before."""
        del reference
        return (
            state.first_touched == target
            and state.finger_contacts[target] > 0
            and state.gripper_opening < self.closed_opening
            and bool(state.tool_position[2] > state.positions[target][2] + 0.01)
        )

    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return what was touched first."""
        del target, reference
        return f"first touched: {state.first_touched or 'nothing'}"
