# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from made_rollouts import make_episode

from vla_failure import FailureDetectionError
from vla_failure.episodes import Episode
from vla_failure.splits import PARTS, Shares, Split, part_of, split_episodes, task_folds

TASKS = ("pick", "push", "stack", "touch")


def rollouts(seeds: int = 20) -> list[Episode]:
    """Every scene at every task, of two policies."""
    return [
        make_episode(seed, task=task, episode_id=f"{policy}-{task}-{seed}", steps=2)
        for seed in range(seeds)
        for task in TASKS
        for policy in ("good", "weak")
    ]


def names(episodes: tuple[Episode, ...]) -> set[str]:
    return {episode.info.episode_id for episode in episodes}


def test_parts_share_no_scene_and_lose_no_episode() -> None:
    split = split_episodes(rollouts(), unseen=("stack",))
    parts = [getattr(split, part) for part in PARTS]
    seeds = [{e.info.seed for e in part} for part in parts]
    assert sum(len(s) for s in seeds) == len(set.union(*seeds)) == 20
    assert sum(len(part) for part in parts) + len(split.unseen) == 160
    assert {e.info.task for e in split.unseen} == {"stack"}
    assert len(split.unseen) == 40
    for part in parts:
        assert Counter(e.info.task for e in part).keys() == {"pick", "push", "touch"}


def test_a_split_depends_on_neither_order_nor_chance() -> None:
    episodes = rollouts()
    one, other = split_episodes(episodes), split_episodes(episodes[::-1])
    assert all(names(getattr(one, part)) == names(getattr(other, part)) for part in PARTS)
    another = split_episodes(episodes, seed=1)
    assert names(another.train) != names(one.train)


def test_a_scene_stays_in_its_part_whatever_is_added() -> None:
    few, many = split_episodes(rollouts(20)), split_episodes(rollouts(60), unseen=("touch",))
    for part in PARTS:
        assert {e.info.seed for e in getattr(few, part)} <= {
            e.info.seed for e in getattr(many, part)
        }


def test_shares_are_met() -> None:
    parts = Counter(part_of(seed, Shares()) for seed in range(2_000_000, 2_010_000))
    assert [parts[part] / 10_000 for part in PARTS] == pytest.approx([0.5, 0.1, 0.2, 0.2], abs=0.02)


def test_leaks_are_refused() -> None:
    split = split_episodes(rollouts(), unseen=("stack",))
    with pytest.raises(FailureDetectionError, match="train and test share 1 seeds"):
        replace(split, test=(*split.test, split.train[0]))
    with pytest.raises(FailureDetectionError, match=r"both seen and unseen: \['pick'\]"):
        Split(split.train, split.select, split.calibrate, split.test, split.test[:1])


def test_bad_splits_name_what_is_wrong() -> None:
    with pytest.raises(FailureDetectionError, match=r"no episodes of \['knob'\]"):
        split_episodes(rollouts(), unseen=("knob",))
    with pytest.raises(FailureDetectionError, match="3 seeds are too few: nothing is left to"):
        split_episodes(rollouts(3))
    with pytest.raises(FailureDetectionError, match="sum of 1"):
        Shares(0.5, 0.5, 0.5, 0.5)


def test_every_task_is_held_out_equally_often() -> None:
    tasks = [f"t{i}" for i in range(12)]
    folds = task_folds(tasks, folds=4, repeats=5)
    assert len(folds) == 20
    assert Counter(task for fold in folds for task in fold) == dict.fromkeys(tasks, 5)
    for repeat in range(5):
        part = folds[4 * repeat : 4 * repeat + 4]
        assert sum(len(fold) for fold in part) == len(set().union(*part)) == 12
    assert len(set(folds)) > 4, "repeats differ"
    with pytest.raises(FailureDetectionError, match="valid: 2 to the number of tasks"):
        task_folds(["pick", "push"], folds=4)
