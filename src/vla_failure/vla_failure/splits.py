# SPDX-License-Identifier: Apache-2.0
"""Which episodes a detector is fitted, chosen, calibrated and judged on.

A scene is known by its seed, and the seed alone says which part it belongs to: two policies that
met the same scene, and the same seed at another task (which has the same perturbation), always fall
into the same part. Otherwise what is learned of one would be judged on the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from .episodes import Episode, FailureDetectionError

PARTS = ("train", "select", "calibrate", "test")


@dataclass(frozen=True)
class Shares:
    """Shares of the seeds of seen tasks; they add up to one."""

    train: float = 0.5
    select: float = 0.1
    calibrate: float = 0.2
    test: float = 0.2

    def __post_init__(self) -> None:
        shares = (self.train, self.select, self.calibrate, self.test)
        if min(shares) <= 0.0 or abs(sum(shares) - 1.0) > 1e-9:
            raise FailureDetectionError(f"shares are {shares}; valid: positive, with a sum of 1")


@dataclass(frozen=True)
class Split:
    """Episodes by use; no seed is in two of the parts of seen tasks.

    Attributes:
        train: To fit detectors.
        select: To choose hyper-parameters, and to shape the band.
        calibrate: For the band's quantile.
        test: To judge on seen tasks.
        unseen: All episodes of the tasks that were held out.
    """

    train: tuple[Episode, ...]
    select: tuple[Episode, ...]
    calibrate: tuple[Episode, ...]
    test: tuple[Episode, ...]
    unseen: tuple[Episode, ...]

    def __post_init__(self) -> None:
        uses = {part: {e.info.seed for e in getattr(self, part)} for part in PARTS}
        for i, one in enumerate(PARTS):
            for other in PARTS[i + 1 :]:
                shared = sorted(uses[one] & uses[other])
                if shared:
                    raise FailureDetectionError(
                        f"{one} and {other} share {len(shared)} seeds, e.g. {shared[:5]}"
                    )
        held_out = {e.info.task for e in self.unseen}
        leaked = held_out & {e.info.task for part in PARTS for e in getattr(self, part)}
        if leaked:
            raise FailureDetectionError(f"tasks are both seen and unseen: {sorted(leaked)}")


def split_episodes(
    episodes: Sequence[Episode],
    *,
    unseen: Collection[str] = (),
    shares: Shares | None = None,
    seed: int = 0,
) -> Split:
    """Splits episodes by seed, and by task.

    Args:
        episodes: In any order, which does not matter.
        unseen: Tasks that are held out.
        shares: Of the seeds, see ``part_of``; the default is half of them to train.
        seed: Another one gives other parts.

    Raises:
        FailureDetectionError: If a task is unknown or a part stays empty.
    """
    shares = shares or Shares()
    tasks = {episode.info.task for episode in episodes}
    unknown = sorted(set(unseen) - tasks)
    if unknown:
        raise FailureDetectionError(f"no episodes of {unknown}; there are: {sorted(tasks)}")
    seen = [episode for episode in episodes if episode.info.task not in unseen]
    parts = {
        part: tuple(e for e in seen if part_of(e.info.seed, shares, seed) == part) for part in PARTS
    }
    empty = [part for part in PARTS if not parts[part]]
    if empty:
        raise FailureDetectionError(
            f"{len({e.info.seed for e in seen})} seeds are too few: nothing is left to "
            f"{', '.join(empty)}"
        )
    return Split(**parts, unseen=tuple(e for e in episodes if e.info.task in unseen))


def part_of(scene_seed: int, shares: Shares, seed: int = 0) -> str:
    """The part that a scene belongs to, whatever other scenes there are.

    So more rollouts, or fewer, never move a scene from one part to another.

    Args:
        scene_seed: Of the scene.
        shares: Of the parts; met approximately, as by drawing lots.
        seed: Another one gives other parts.
    """
    lot = int(_shuffle(seed, str(scene_seed))[:13], 16) / 16**13
    ends = (shares.train, shares.train + shares.select, 1.0 - shares.test, 1.0)
    return next(part for part, end in zip(PARTS, ends, strict=True) if lot < end)


def task_folds(
    tasks: Iterable[str], *, folds: int = 4, repeats: int = 1, seed: int = 0
) -> list[tuple[str, ...]]:
    """Sets of tasks to hold out: in every repeat disjoint, so each task equally often.

    Raises:
        FailureDetectionError: If there are fewer tasks than folds, or too few folds.
    """
    names = sorted(set(tasks))
    if not 2 <= folds <= len(names):
        raise FailureDetectionError(
            f"{folds} folds of {len(names)} tasks; valid: 2 to the number of tasks"
        )
    held_out = []
    for repeat in range(repeats):
        order = sorted(names, key=lambda name: _shuffle(seed, f"{repeat}/{name}"))
        held_out += [tuple(sorted(order[fold::folds])) for fold in range(folds)]
    return held_out


def _shuffle(seed: int, text: str) -> str:
    """A key by which to sort at random that depends on nothing else."""
    return hashlib.sha256(f"{seed}/{text}".encode()).hexdigest()
