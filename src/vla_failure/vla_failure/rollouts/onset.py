# SPDX-License-Identifier: Apache-2.0
"""When an episode was lost: from which inference on the expert could not save it any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from vla_sim import tasks
from vla_sim.demonstrations import displaced
from vla_sim.experts import EXECUTE_STEPS, STEP_DT, Expert
from vla_sim.simulation import SimSnapshot, Simulation

TRIALS = 3
# Standard deviation per axis of what is added to the expert's chunks in all trials but the first,
# m; without it they would all be the same.
_NOISE = 0.004


def find_onset(
    sim: Simulation, snapshots: Sequence[SimSnapshot], *, trials: int = TRIALS
) -> int | None:
    """The first of some snapshots from which the expert fails in all of its trials.

    Found by bisection, so it takes for granted that what was lost stays lost.

    Args:
        sim: In lockstep; left in an arbitrary state.
        snapshots: Of one episode, in the order of time; the last one from its end.
        trials: Restarts per snapshot.

    Returns:
        Its index; None if the expert succeeds even from the last one.
    """
    return first_lost(
        len(snapshots), trials, lambda index, trial: _expert_succeeds(sim, snapshots[index], trial)
    )


def first_lost(count: int, trials: int, succeeds: Callable[[int, int], bool]) -> int | None:
    """The first index that is lost where all after it are; None if the last one is not.

    Args:
        count: Of the indices.
        trials: An index is lost if none of so many trials succeeds.
        succeeds: Whether a trial at an index succeeds; costly.
    """
    known = cache(succeeds)

    def is_lost(index: int) -> bool:
        return not any(known(index, trial) for trial in range(trials))

    if not is_lost(count - 1):
        return None
    # One trial tells most of it: where it succeeds nothing is lost. The others are needed only from
    # the first index on at which it fails.
    first = _bisect(-1, count - 1, lambda index: not known(index, 0))
    return first if is_lost(first) else _bisect(first, count - 1, is_lost)


def _bisect(saved: int, lost: int, is_lost: Callable[[int], bool]) -> int:
    """The first lost index after ``saved``, up to ``lost``, which is."""
    while lost - saved > 1:
        middle = (saved + lost) // 2
        if is_lost(middle):
            lost = middle
        else:
            saved = middle
    return lost


def _expert_succeeds(sim: Simulation, snapshot: SimSnapshot, trial: int) -> bool:
    """Whether the expert, restarted from a snapshot, succeeds in the task's own time."""
    sim.restore(snapshot)
    expert = Expert(sim.robot)
    rng = np.random.default_rng([sim.seed, 9, trial])
    period = EXECUTE_STEPS * STEP_DT
    for _ in range(round(tasks.get(sim.task).time_limit / period)):
        poses, openings = expert.plan(sim)
        if trial > 0:
            poses = displaced(poses, rng.normal(0.0, _NOISE, 3) * [1.0, 1.0, 0.0], 0.0)
        sim.push_chunk(expert.chunk(poses, openings, stamp_ns=sim.time_ns))
        sim.advance(period)
        if sim.judge().success:
            return True
    return False
