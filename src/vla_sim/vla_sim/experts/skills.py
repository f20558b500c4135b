# SPDX-License-Identifier: Apache-2.0
"""Which goals an expert pursues at each task, and how the object answers in its picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vla_sim.experts.goals import (
    Goals,
    PickGoals,
    PushGoals,
    TouchGoals,
    WaitGoals,
    push_cube,
)
from vla_sim.experts.mechanisms import ButtonGoals, DrawerGoals, press_button, pull_drawer
from vla_sim.experts.placing import PlaceGoals, RelationGoals, StackGoals
from vla_sim.experts.world import World
from vla_sim.scene import CUBE_SIZE


@dataclass(frozen=True)
class Skill:
    """How a task is done.

    Attributes:
        goals: Where the tool shall go next.
        react: What the object does when the tool moves without holding it; None = nothing.
        width: Of the object between the pads, m; 0 = it cannot be held.
    """

    goals: Goals
    react: Callable[[World], None] | None = None
    width: float = CUBE_SIZE


# What is right when the object is not there.
WAITING = WaitGoals()
SKILLS: dict[str, Skill] = {
    "touch": Skill(TouchGoals()),
    "push": Skill(PushGoals(), push_cube),
    "pick": Skill(PickGoals()),
    "place": Skill(PlaceGoals()),
    "stack": Skill(StackGoals()),
    "drawer": Skill(DrawerGoals(), pull_drawer, width=0.0),
    "button": Skill(ButtonGoals(), press_button, width=0.0),
    "relation": Skill(RelationGoals()),
}
