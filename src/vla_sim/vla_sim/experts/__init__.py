# SPDX-License-Identifier: Apache-2.0
"""Scripted experts: they see the state of the scene and steer with chunks like any policy."""

from __future__ import annotations

from vla_sim.experts.base import EXECUTE_STEPS, HORIZON, STEP_DT, Expert
from vla_sim.experts.goals import Goals, PickGoals, PlaceGoals, PushGoals, TouchGoals
from vla_sim.simulation import Simulation

_GOALS: dict[str, type[Goals]] = {
    "touch": TouchGoals,
    "push": PushGoals,
    "pick": PickGoals,
    "place": PlaceGoals,
}


def make_expert(sim: Simulation) -> Expert:
    """Return the expert for the task of a simulation; it follows later resets to other scenes."""
    return Expert(lambda task: _GOALS[task](), sim.robot)


__all__ = ["EXECUTE_STEPS", "HORIZON", "STEP_DT", "Expert", "make_expert"]
