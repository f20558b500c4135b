# SPDX-License-Identifier: Apache-2.0
"""Every suite changes what it says, and what it draws comes from the seed."""

from __future__ import annotations

import numpy as np
import pytest

from vla_sim import robots, scene, suites, tasks
from vla_sim.scene.props import CLUTTER
from vla_sim.suites import CORE_TASKS, PERTURBATIONS, SuiteError
from vla_sim.tasks import TaskInstance
from vla_sim.variations import _place_of

SEEDS = range(40)


def draws(suite: str, task: str) -> list[TaskInstance]:
    robot = robots.get("panda")
    return [suites.get(suite).draw(task, seed, robot) for seed in SEEDS]


def things(instance: TaskInstance) -> list[str]:
    layout = instance.layout
    return [c.color for c in layout.cubes] + [p.name for p in layout.props]


def test_unknown_suite_lists_the_valid_ones() -> None:
    with pytest.raises(SuiteError, match="basic, core, position"):
        suites.get("easy")


@pytest.mark.parametrize("suite", suites.SUITES)
def test_a_seed_gives_one_scene(suite: str) -> None:
    robot = robots.get("panda")
    for task in suites.get(suite).tasks:
        one, same = (suites.get(suite).draw(task, 11, robot) for _ in range(2))
        other = suites.get(suite).draw(task, 12, robot)
        assert one.suite == suite
        assert (one.layout.cubes, one.layout.props) == (same.layout.cubes, same.layout.props)
        assert np.array_equal(one.layout.look.color_offsets, same.layout.look.color_offsets)
        assert (one.layout.cubes, one.layout.props) != (other.layout.cubes, other.layout.props)


@pytest.mark.parametrize("task", CORE_TASKS)
def test_core_keeps_the_named_things_and_varies_the_rest(task: str) -> None:
    basic, core = draws("basic", task), draws("core", task)
    for plain, varied in zip(basic, core, strict=True):
        assert (varied.target, varied.reference) == (plain.target, plain.reference)
        assert varied.instruction == plain.instruction
        assert varied.layout.cubes == plain.layout.cubes
        assert set(things(varied)) - set(things(plain)) <= set(CLUTTER)
        assert 0.75 <= varied.layout.friction <= 1.3
        assert 0.6 <= varied.layout.mass <= 1.6
    extra = {len(c.layout.props) - len(b.layout.props) for b, c in zip(basic, core, strict=True)}
    assert extra == {0, 1, 2}


@pytest.mark.parametrize("task", CORE_TASKS)
def test_position_is_outside_by_a_little(task: str) -> None:
    (x_low, x_high), (y_low, y_high) = tasks.get(task).target_range
    for instance in draws("position", task):
        x, y = _place_of(instance)
        outside = max(x_low - x, x - x_high, y_low - y, y - y_high)
        assert 0.0099 <= outside <= 0.0401
    for instance in draws("core", task):
        x, y = _place_of(instance)
        assert x_low <= x <= x_high
        assert y_low <= y <= y_high


def test_lighting_is_outside_of_what_core_draws() -> None:
    ambient = [i.layout.look.light_ambient for i in draws("core", "pick")]
    for instance in draws("lighting", "pick"):
        strange = instance.layout.look.light_ambient
        assert strange < min(ambient) or strange > max(ambient)


def test_dim_is_core_with_less_light() -> None:
    core, dim = draws("core", "drawer"), draws("dim", "drawer")
    for before, after in zip(core, dim, strict=True):
        left = after.layout.look.light_ambient / before.layout.look.light_ambient
        assert 0.2 <= left <= 0.4
        assert after.layout.look.light_diffuse == pytest.approx(
            left * before.layout.look.light_diffuse
        )
        assert after.layout.props == before.layout.props


def test_distractors_are_many() -> None:
    complete = [set(things(i)) >= {*scene.COLORS, *CLUTTER} for i in draws("distractors", "pick")]
    assert np.mean(complete) > 0.9
    assert all(set(things(i)) >= set(CLUTTER) for i in draws("distractors", "button"))


@pytest.mark.parametrize("task", CORE_TASKS)
def test_what_is_absent_is_named_and_not_there(task: str) -> None:
    for instance in draws("absent", task):
        assert instance.absent
        assert instance.target.split()[0] in instance.instruction
        assert instance.target not in scene.present_objects(instance.layout)


@pytest.mark.parametrize("task", CORE_TASKS)
def test_paraphrases_are_new_but_of_known_words(task: str) -> None:
    known = {
        word
        for name in CORE_TASKS
        for order in tasks.get(name).orders()
        for text in tasks.get(name).instructions(*order)
        for word in text.split()
    }
    for instance in draws("paraphrase", task):
        usual = tasks.get(task).instructions(instance.target, instance.reference)
        assert instance.instruction not in usual
        assert set(instance.instruction.split()) <= known


def test_perturbations_are_suites() -> None:
    assert set(PERTURBATIONS) < set(suites.SUITES)
    assert set(suites.get("drop").tasks) == {"pick", "place", "stack", "relation"}
