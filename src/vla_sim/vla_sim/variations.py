# SPDX-License-Identifier: Apache-2.0
"""Changes to drawn scenes, of which suites are made; all they draw comes from one generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vla_sim.robots import RobotSpec
from vla_sim.scene import COLORS, OBJECTS, CubePose, Prop, SceneLook
from vla_sim.scene.props import CLUTTER
from vla_sim.tasks import Task, TaskInstance
from vla_sim.tasks.arranging import distance, draw_point
from vla_sim.tasks.base import CUBE_SPACING, MAX_YAW, Arrangement

# Where an object outside of the demonstrations' rectangle may lie, m.
_OUTER_X = (0.31, 0.70)
_OUTER_Y = (-0.24, 0.24)
_OUTSIDE = (0.01, 0.04)
_TRIES = 500
# Share of the light that is left where most of it is off.
_DIM = (0.2, 0.4)


def of_suite(instance: TaskInstance, suite: str) -> TaskInstance:
    """Return the instance with the name of the suite that it was drawn for."""
    return replace(instance, suite=suite)


def look(
    instance: TaskInstance, task: Task, rng: np.random.Generator, robot: RobotSpec
) -> TaskInstance:
    """Light, colours and scene camera differ about twice as much as in ``basic``."""
    del task, robot
    nominal = SceneLook.nominal()
    drawn = SceneLook(
        light_position=nominal.light_position + rng.uniform(-1, 1, 3) * [0.4, 0.8, 0.3],
        light_diffuse=nominal.light_diffuse * float(rng.uniform(0.7, 1.3)),
        light_ambient=nominal.light_ambient * float(rng.uniform(0.8, 1.2)),
        camera_position_offset=rng.uniform(-0.03, 0.03, 3),
        camera_target_offset=rng.uniform(-0.015, 0.015, 3),
        color_offsets=rng.uniform(-0.06, 0.06, (7, 3)),
        light_tint=rng.uniform(0.96, 1.04, 3),
    )
    return replace(instance, layout=replace(instance.layout, look=drawn))


def physics(
    instance: TaskInstance, task: Task, rng: np.random.Generator, robot: RobotSpec
) -> TaskInstance:
    """What can be picked up is more or less slippery and heavy."""
    del task, robot
    friction, mass = float(rng.uniform(0.75, 1.3)), float(rng.uniform(0.6, 1.6))
    return replace(instance, layout=replace(instance.layout, friction=friction, mass=mass))


def some_clutter(
    instance: TaskInstance, task: Task, rng: np.random.Generator, robot: RobotSpec
) -> TaskInstance:
    """Up to two things of no task lie about."""
    del robot
    return _with_clutter(instance, task, rng, int(rng.integers(3)))


def much_clutter(
    instance: TaskInstance, task: Task, rng: np.random.Generator, robot: RobotSpec
) -> TaskInstance:
    """All things of no task lie about, and cubes of every colour if there are cubes at all."""
    del robot
    layout = instance.layout
    missing = [color for color in COLORS if color not in {cube.color for cube in layout.cubes}]
    cubes = list(layout.cubes)
    for color in missing if cubes else ():
        place = _free_place(instance, task, rng)
        if place is not None:
            cubes.append(CubePose(color, *place, float(rng.uniform(-MAX_YAW, MAX_YAW))))
            instance = replace(instance, layout=replace(layout, cubes=tuple(cubes)))
    return _with_clutter(instance, task, rng, len(CLUTTER))


def strange_light(
    instance: TaskInstance, task: Task, rng: np.random.Generator, robot: RobotSpec
) -> TaskInstance:
    """It is much darker or brighter, and one colour of the light is weaker."""
    del task, robot
    brightness = float(rng.uniform(0.45, 0.7) if rng.random() < 0.5 else rng.uniform(1.25, 1.45))
    tint = np.ones(3)
    tint[int(rng.integers(3))] = rng.uniform(0.75, 0.9)
    nominal = SceneLook.nominal()
    changed = replace(
        instance.layout.look,
        light_diffuse=nominal.light_diffuse * brightness,
        light_ambient=nominal.light_ambient * brightness,
        light_tint=tint,
    )
    return replace(instance, layout=replace(instance.layout, look=changed))


def dim_light(
    instance: TaskInstance, task: Task, rng: np.random.Generator, robot: RobotSpec
) -> TaskInstance:
    """Most of the light is off."""
    del task, robot
    look, left = instance.layout.look, float(rng.uniform(*_DIM))
    changed = replace(
        look, light_diffuse=look.light_diffuse * left, light_ambient=look.light_ambient * left
    )
    return replace(instance, layout=replace(instance.layout, look=changed))


def outside(
    instance: TaskInstance, task: Task, rng: np.random.Generator, robot: RobotSpec
) -> TaskInstance:
    """The whole scene is shifted until the object lies outside of its usual rectangle.

    Cubes that are not named are left out where they would be out of reach.
    """
    for _ in range(_TRIES):
        drawn = task.sample(rng, robot, instance.seed)
        shift = _shift_outside(_place_of(drawn), task.target_range, rng)
        cubes = [replace(c, x=c.x + shift[0], y=c.y + shift[1]) for c in drawn.layout.cubes]
        props = [replace(p, x=p.x + shift[0], y=p.y + shift[1]) for p in drawn.layout.props]
        named = {drawn.target, drawn.reference}
        needed = [c for c in cubes if c.color in named] + [p for p in props if p.name != "zone"]
        if all(_reachable(thing) for thing in needed):
            kept = tuple(c for c in cubes if c.color in named or _reachable(c))
            layout = replace(drawn.layout, cubes=kept, props=tuple(props))
            return replace(drawn, layout=layout)
    raise RuntimeError(
        f"no scene of {task.name!r} could be shifted outside with seed {instance.seed}"
    )


def absent(
    instance: TaskInstance, task: Task, rng: np.random.Generator, robot: RobotSpec
) -> TaskInstance:
    """The named object is missing."""
    del task, rng, robot
    layout = instance.layout
    cubes = tuple(cube for cube in layout.cubes if cube.color != instance.target)
    watched = OBJECTS[instance.target].prop
    props = tuple(prop for prop in layout.props if prop.name != watched)
    return replace(instance, layout=replace(layout, cubes=cubes, props=props), absent=True)


def paraphrase(
    instance: TaskInstance, task: Task, rng: np.random.Generator, robot: RobotSpec
) -> TaskInstance:
    """The instruction is one that no demonstration uses."""
    del robot
    wordings = task.held_out_instructions(instance.target, instance.reference)
    return replace(instance, instruction=wordings[int(rng.integers(len(wordings)))])


def slippery(
    instance: TaskInstance, task: Task, rng: np.random.Generator, robot: RobotSpec
) -> TaskInstance:
    """The object is taken out of the fingers once."""
    del task, rng, robot
    return replace(instance, drops=True)


def _with_clutter(
    instance: TaskInstance, task: Task, rng: np.random.Generator, count: int
) -> TaskInstance:
    names = [str(name) for name in rng.permutation(list(CLUTTER))][:count]
    for name in names:
        place = _free_place(instance, task, rng)
        if place is None:
            break
        prop = Prop(name, *place, float(rng.uniform(-np.pi, np.pi)))
        layout = replace(instance.layout, props=(*instance.layout.props, prop))
        instance = replace(instance, layout=layout)
    return instance


def _free_place(
    instance: TaskInstance, task: Task, rng: np.random.Generator
) -> tuple[float, float] | None:
    """Return where one more thing leaves room; None = hardly anywhere."""
    layout = instance.layout
    arrangement = Arrangement(instance.target, instance.reference, layout.cubes, layout.props)
    things = [(c.x, c.y) for c in layout.cubes]
    things += [p.place for p in layout.props if p.name in CLUTTER]
    for _ in range(_TRIES):
        point = draw_point(rng)
        apart = all(distance(point, thing) >= CUBE_SPACING for thing in things)
        if apart and task.leaves_room(point, arrangement):
            return point
    return None


def _place_of(instance: TaskInstance) -> tuple[float, float]:
    """Return where the named object stands."""
    watched = OBJECTS[instance.target].prop
    for cube in instance.layout.cubes:
        if cube.color == instance.target:
            return cube.x, cube.y
    return next(prop.place for prop in instance.layout.props if prop.name == watched)


def _shift_outside(
    place: tuple[float, float],
    usual: tuple[tuple[float, float], tuple[float, float]],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return the shift over the nearest edge of the usual rectangle."""
    beyond = float(rng.uniform(*_OUTSIDE))
    (x_low, x_high), (y_low, y_high) = usual
    x, y = place
    shifts = (
        (x_low - x - beyond, 0.0),
        (x_high - x + beyond, 0.0),
        (0.0, y_low - y - beyond),
        (0.0, y_high - y + beyond),
    )
    return min(shifts, key=lambda shift: abs(shift[0]) + abs(shift[1]))


def _reachable(thing: CubePose | Prop) -> bool:
    return _OUTER_X[0] <= thing.x <= _OUTER_X[1] and _OUTER_Y[0] <= thing.y <= _OUTER_Y[1]
