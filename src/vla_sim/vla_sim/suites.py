# SPDX-License-Identifier: Apache-2.0
"""Suites: which tasks, and how much their scenes differ from those of ``basic``.

A suite changes the scenes that its tasks draw, and each change is drawn from the seed alone. The
suite ``core`` differs moderately; that is what policies are trained on. Each suite after it adds
one thing that no demonstration shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vla_sim import tasks, variations
from vla_sim.robots import RobotSpec
from vla_sim.tasks import Task, TaskInstance

Change = Callable[[TaskInstance, Task, np.random.Generator, RobotSpec], TaskInstance]


class SuiteError(ValueError):
    """A suite is unknown."""


@dataclass(frozen=True)
class Suite:
    """Tasks and what is changed in their scenes.

    Attributes:
        name: Short name.
        tasks: Names of the tasks that make it up; others can be drawn in the same way.
        changes: Applied one after the other.
        severity: What is changed and how much, for people to read.
    """

    name: str
    tasks: tuple[str, ...]
    changes: tuple[Change, ...]
    severity: str

    def draw(self, task: str, seed: int, robot: RobotSpec) -> TaskInstance:
        """Draw the instance of any task that belongs to a seed.

        Raises:
            TaskError: There is no such task; the message lists the valid names.
        """
        drawn = tasks.get(task)
        instance = drawn.draw(seed, robot)
        rng = np.random.default_rng([seed, 3, *task.encode()])
        for change in self.changes:
            instance = change(instance, drawn, rng, robot)
        return variations.of_suite(instance, self.name)


BASIC_TASKS = ("touch", "push", "pick", "place")
CORE_TASKS = (*BASIC_TASKS, "stack", "drawer", "button", "relation")
_GRASPING_TASKS = tuple(name for name in CORE_TASKS if tasks.get(name).grasps)
_CORE = (variations.look, variations.physics, variations.some_clutter)

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("basic", BASIC_TASKS, (), "scenes as the tasks draw them"),
        Suite(
            "core",
            CORE_TASKS,
            _CORE,
            "light +-20 to 30 %, its place +-0.3 to 0.8 m, its colour +-4 %; scene camera +-3 cm;"
            " colours +-6 %;"
            " friction 0.75 to 1.3, mass 0.6 to 1.6 of the nominal; none to two things of no task",
        ),
        Suite(
            "position",
            CORE_TASKS,
            (variations.outside, *_CORE),
            "the object lies 1 to 4 cm outside of the rectangle of the demonstrations",
        ),
        Suite(
            "lighting",
            CORE_TASKS,
            (*_CORE, variations.strange_light),
            "light 45 to 70 or 125 to 145 % of the nominal, one of its colours down to 75 %",
        ),
        Suite(
            "dim",
            CORE_TASKS,
            (*_CORE, variations.dim_light),
            "20 to 40 % of the light",
        ),
        Suite(
            "distractors",
            CORE_TASKS,
            (variations.look, variations.physics, variations.much_clutter),
            "three things of no task, and cubes of all four colours where the task has cubes",
        ),
        Suite(
            "absent",
            CORE_TASKS,
            (*_CORE, variations.absent),
            "the named object is not there; success = no finger touches anything for 7 s",
        ),
        Suite(
            "paraphrase",
            CORE_TASKS,
            (*_CORE, variations.paraphrase),
            "wordings that no demonstration uses, of words that demonstrations do use",
        ),
        Suite(
            "drop",
            _GRASPING_TASKS,
            (*_CORE, variations.slippery),
            "once it is lifted by 5 cm, the object is taken out of the fingers and put down 3 to"
            " 7 cm away",
        ),
    )
}
PERTURBATIONS = ("position", "lighting", "distractors", "absent", "paraphrase", "drop")


def get(name: str) -> Suite:
    """Return the suite called ``name``.

    Raises:
        SuiteError: There is no such suite; the message lists the valid names.
    """
    if name not in SUITES:
        raise SuiteError(f"unknown suite {name!r}; valid: {', '.join(SUITES)}")
    return SUITES[name]
