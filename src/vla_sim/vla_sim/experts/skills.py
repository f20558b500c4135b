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
from vla_sim.experts.mechanisms import (
    ButtonGoals,
    DrawerGoals,
    FollowGoals,
    KnobGoals,
    carry_puck,
    press_button,
    pull_drawer,
)
from vla_sim.experts.placing import PlaceGoals, RelationGoals, StackGoals
from vla_sim.experts.tools import (
    CUP_GRIP,
    PEG_GRIP,
    InsertGoals,
    TiltGoals,
    WipeGoals,
    wipe_mark,
)
from vla_sim.experts.world import World
from vla_sim.scene import CUBE_SIZE
from vla_sim.scene.mechanisms import KNOB_WIDTH
from vla_sim.scene.tools import CUP_RADIUS, PEG_WIDTH


@dataclass(frozen=True)
class Skill:
    """How a task is done.

    Attributes:
        goals: Where the tool shall go next.
        react: What the object does for so many seconds without being held; None = nothing.
        width: Of the object between the pads, m; 0 = it cannot be held.
        grip: Height above the object's position at which it is held, m.
        hinged: Whether the held object stays where it is and turns with the tool.
        drifts: Whether the object moves about its aim by itself.
    """

    goals: Goals
    react: Callable[[World, float], None] | None = None
    width: float = CUBE_SIZE
    grip: float = 0.0
    hinged: bool = False
    drifts: bool = False


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
    "wipe": Skill(WipeGoals(), wipe_mark, width=0.0),
    "insert": Skill(InsertGoals(), width=PEG_WIDTH, grip=PEG_GRIP),
    "knob": Skill(KnobGoals(), width=KNOB_WIDTH, hinged=True),
    "tilt": Skill(TiltGoals(), width=2 * CUP_RADIUS, grip=CUP_GRIP),
    "follow": Skill(FollowGoals(), carry_puck, width=0.0, drifts=True),
}
