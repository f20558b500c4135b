# SPDX-License-Identifier: Apache-2.0
"""Scripted experts: they see the state of the scene and steer with chunks like any policy."""

from __future__ import annotations

from vla_sim.experts.base import EXECUTE_STEPS, HORIZON, STEP_DT, Expert, world_of
from vla_sim.experts.skills import SKILLS, WAITING, Skill
from vla_sim.simulation import Simulation


def make_expert(sim: Simulation) -> Expert:
    """Return the expert for a simulation; it follows later resets to other scenes and tasks."""
    return Expert(sim.robot)


__all__ = [
    "EXECUTE_STEPS",
    "HORIZON",
    "SKILLS",
    "STEP_DT",
    "WAITING",
    "Expert",
    "Skill",
    "make_expert",
    "world_of",
]
