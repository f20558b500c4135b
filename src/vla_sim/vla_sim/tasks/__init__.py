# SPDX-License-Identifier: Apache-2.0
"""The tasks: a scene to draw, an instruction, and what counts as success."""

from __future__ import annotations

from vla_sim.tasks.base import Judge, Judgement, SceneState, Task, TaskError, TaskInstance
from vla_sim.tasks.button import Button
from vla_sim.tasks.drawer import Drawer
from vla_sim.tasks.follow import Follow
from vla_sim.tasks.insert import Insert
from vla_sim.tasks.knob import Knob
from vla_sim.tasks.pick import Pick
from vla_sim.tasks.place import Place
from vla_sim.tasks.push import Push
from vla_sim.tasks.relation import Relation
from vla_sim.tasks.stack import Stack
from vla_sim.tasks.tilt import Tilt
from vla_sim.tasks.touch import Touch
from vla_sim.tasks.wipe import Wipe

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Touch(),
        Push(),
        Pick(),
        Place(),
        Stack(),
        Drawer(),
        Button(),
        Relation(),
        Wipe(),
        Insert(),
        Knob(),
        Tilt(),
        Follow(),
    )
}


def get(name: str) -> Task:
    """Return the task called ``name``.

    Raises:
        TaskError: There is no such task; the message lists the valid names.
    """
    if name not in TASKS:
        raise TaskError(f"unknown task {name!r}; valid: {', '.join(TASKS)}")
    return TASKS[name]


__all__ = [
    "TASKS",
    "Judge",
    "Judgement",
    "SceneState",
    "Task",
    "TaskError",
    "TaskInstance",
    "get",
]
