# SPDX-License-Identifier: Apache-2.0
"""Checks that a policy acts on pixels and words, not on anything privileged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vla_sim import scene, tasks
from vla_sim.simulation import Simulation

from ..interface import Policy
from ..types import RobotState
from .rollout import TIME_LIMITS, EpisodeResult, run_episode


@dataclass(frozen=True)
class PairResult:
    """The same scene under two instructions.

    Attributes:
        seed: Of the scene.
        first: Episode with the drawn instruction.
        second: Episode with another object named.
        chosen: What was chosen in each.
        different: Whether two different objects were chosen.
    """

    seed: int
    first: EpisodeResult
    second: EpisodeResult
    chosen: tuple[str | None, str | None]
    different: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for JSON."""
        return {
            "seed": self.seed,
            "chosen": list(self.chosen),
            "different": self.different,
            "episodes": [self.first.to_dict(), self.second.to_dict()],
        }


def chosen_object(result: EpisodeResult) -> str | None:
    """The cube an episode went for: the first lifted, else the first touched."""
    return result.lifted_object or result.touched_object


def colour_pair(policy: Policy, sim: Simulation) -> PairResult | None:
    """Runs the scene that ``sim`` was reset to twice, the second time with another object named.

    Both wordings are the canonical one, and scene, noise and start are the same, so only the
    colour's word differs. None if nothing else in the scene could be named.
    """
    task, drawn = tasks.get(sim.task), sim.instance
    present = scene.present_objects(drawn.layout)
    nameable = {target for target, reference in task.orders() if reference == drawn.reference}
    others = sorted(name for name in present if name in nameable - {drawn.target})
    if not others:
        return None
    results = []
    for color in (drawn.target, others[drawn.seed % len(others)]):
        sim.reset_to(drawn.naming(color, task))
        results.append(run_episode(policy, sim, time_limit_s=TIME_LIMITS[sim.task]))
    chosen = (chosen_object(results[0]), chosen_object(results[1]))
    different = None not in chosen and chosen[0] != chosen[1]
    return PairResult(drawn.seed, results[0], results[1], chosen, different)


def unseen_move_changes_nothing(policy: Policy, sim: Simulation) -> bool:
    """Whether a cube moved without rendering anew leaves the chunk identical to the last bit.

    The observation is taken again from the changed simulation; only its images are the old ones.
    """
    before = sim.observe()
    reference = _chunk(policy, before)
    sim.displace(sim.instance.target, np.array([0.05, 0.05, 0.0]))
    after = replace(sim.observe(), images=before.images)
    repeated = _chunk(policy, after)
    return all(np.array_equal(reference[name], repeated[name]) for name in reference)


def seen_move_changes_the_chunk(policy: Policy, sim: Simulation) -> bool:
    """The positive control: rendered anew, the same move changes the chunk."""
    reference = _chunk(policy, sim.observe())
    sim.displace(sim.instance.target, np.array([0.05, 0.05, 0.0]))
    repeated = _chunk(policy, sim.observe())
    return not np.array_equal(reference["commanded"], repeated["commanded"])


def _chunk(policy: Policy, observation: Any) -> dict[str, np.ndarray[Any, Any]]:
    policy.reset(0)
    chunk = policy.act(policy.encode(observation), RobotState.of(observation))
    return {
        "commanded": chunk.commanded,
        "gripper": chunk.gripper_opening,
        "features": chunk.features,
    }
