# SPDX-License-Identifier: Apache-2.0
"""Alarms on tasks that were held out: under the band of the seen tasks, and one that learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..calibration import AdaptiveBand, Shape, fit_band, prequential
from ..episodes import FloatArray
from ..measures.alarms import Alarm
from .study import Fold, Judged, Study

# Shares of the outcomes that become known after an episode, and what figures call them.
FEEDBACK = {"": 1.0, "_feedback_20": 0.2}


@dataclass(frozen=True)
class Stream:
    """The episodes of one held-out task in the order in which they came.

    Attributes:
        task: Its name.
        alarms: One per episode.
    """

    task: str
    alarms: tuple[Alarm, ...]

    def false_alarms(self) -> FloatArray:
        """(n,) of the successes in their order: 1 for an alarm, else 0."""
        return np.array(
            [float(a.first_alarm is not None) for a in self.alarms if a.episode.info.success]
        )


def adaptive_streams(judged: Judged, study: Study, feedback: float) -> list[Stream]:
    """With a band per held-out task that learns as its episodes come, in random order.

    The first episodes count: the warm-up is part of what is judged.
    """
    shape = Shape.of(judged.select)
    prior = [shape.largest_excess(scores) for scores in judged.calibrate]
    streams = []
    for task, order in _orders(judged, study):
        verdicts = prequential(
            AdaptiveBand(shape, prior, study.alpha),
            [(judged.scores[i], judged.episodes[i].info.success) for i in order],
            feedback=feedback,
            seed=study.seed,
        )
        alarms = (
            Alarm(judged.episodes[i], v.first_alarm) for i, v in zip(order, verdicts, strict=True)
        )
        streams.append(Stream(task, tuple(alarms)))
    return streams


def fixed_streams(judged: Judged, study: Study) -> list[Stream]:
    """With the band of the seen tasks, which stays as it is; the same order."""
    band = fit_band(judged.select, judged.calibrate, study.alpha)
    return [
        Stream(
            task,
            tuple(Alarm(judged.episodes[i], band.first_alarm(judged.scores[i])) for i in order),
        )
        for task, order in _orders(judged, study)
    ]


def seen_false_alarms(folds: Sequence[Fold], name: str, study: Study) -> FloatArray:
    """Of the *test* split of seen tasks, under the fixed band: 1 for an alarm, else 0.

    A task is seen in several folds: an episode counts once, with the mean of its folds.
    """
    found: dict[str, list[float]] = {}
    for fold in folds:
        judged = fold.of(name)
        band = fit_band(judged.select, judged.calibrate, study.alpha)
        for episode, scores in judged.test.items():
            found.setdefault(episode, []).append(float(band.first_alarm(scores) is not None))
    return np.array([np.mean(hits) for hits in found.values()])


def _orders(judged: Judged, study: Study) -> list[tuple[str, list[int]]]:
    """Indices of the episodes of every task, shuffled; the same for every detector."""
    found = []
    for task in sorted({episode.info.task for episode in judged.episodes}):
        own = [i for i, episode in enumerate(judged.episodes) if episode.info.task == task]
        rng = np.random.default_rng([study.seed, *task.encode()])
        found.append((task, [int(i) for i in rng.permutation(own)]))
    return found
