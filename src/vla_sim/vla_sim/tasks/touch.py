# SPDX-License-Identifier: Apache-2.0
"""Touch the named cube from above with the closed fingertips."""

from __future__ import annotations

from vla_sim.tasks.base import SceneState, Task


class Touch(Task):
    """Success: the first cube touched is the named one, from above, with the gripper closed."""

    name = "touch"
    templates = (
        "touch the {color} block",
        "put your fingertips on the {color} block",
        "reach down and touch the {color} cube",
    )
    closed_opening = 0.02

    def fulfilled(self, state: SceneState, target: str) -> bool:
        """Return whether the closed gripper touches the named cube, and touched no other before."""
        return (
            state.first_touched == target
            and state.finger_contacts[target] > 0
            and state.gripper_opening < self.closed_opening
            and bool(state.tool_position[2] > state.positions[target][2] + 0.01)
        )

    def describe(self, state: SceneState, target: str) -> str:
        """Return what was touched first."""
        del target
        return f"first touched: {state.first_touched or 'nothing'}"
