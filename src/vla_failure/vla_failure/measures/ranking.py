# SPDX-License-Identifier: Apache-2.0
"""How well scores tell failures from successes at one moment of the episode.

Scores are compared at the same time for all episodes of a task, and only among episodes that are
still open then: what has succeeded already, or failed already, would be told by its idling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from ..episodes import Episode, FailureDetectionError, FloatArray, Outcome

BoolArray = npt.NDArray[np.bool_]


def roc_auc(scores: FloatArray, failed: BoolArray) -> float:
    """Probability that a failure scores higher than a success; ties count half.

    Raises:
        FailureDetectionError: If there are none of either.
    """
    positives, negatives = _counts(failed)
    ranks = rankdata(scores)
    wins = ranks[failed].sum() - positives * (positives + 1) / 2.0
    return float(wins / (positives * negatives))


def average_precision(scores: FloatArray, failed: BoolArray) -> float:
    """Area under precision over recall, by steps: no interpolation; ties fall together.

    Raises:
        FailureDetectionError: If there are none of either.
    """
    positives, _ = _counts(failed)
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(failed[order])
    last_of_ties = np.append(np.diff(scores[order]) != 0.0, True)
    found, seen = hits[last_of_ties], np.flatnonzero(last_of_ties) + 1
    recalled = np.diff(found, prepend=0) / positives
    return float((recalled * found / seen).sum())


def balanced_accuracy(alarmed: BoolArray, failed: BoolArray) -> float:
    """Mean of the rates of failures with and successes without an alarm.

    Raises:
        FailureDetectionError: If there are none of either.
    """
    _counts(failed)
    return float(0.5 * (alarmed[failed].mean() + (~alarmed[~failed]).mean()))


@dataclass(frozen=True)
class Snapshot:
    """The open episodes of one task at one moment.

    Attributes:
        time: s since the start of each episode.
        scores: (n,) last scores by then.
        failed: (n,) whether the episode did not succeed later.
        timed_out: (n,) of these, what the expert could still have saved at the end.
        policies: (n,) id of the policy of each.
        groups: (n,) policy and perturbation of each.
        succeeded_before: Episodes left out because they had succeeded by then.
        failed_before: Left out because they were past their onset.
    """

    time: float
    scores: FloatArray
    failed: BoolArray
    timed_out: BoolArray
    policies: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    succeeded_before: int
    failed_before: int

    def auc(self) -> float | None:
        """Over all of them; None if there are none of either kind."""
        return roc_auc(self.scores, self.failed) if self._both(self.failed) else None

    def auc_within_policies(self) -> float | None:
        """Mean over policies; None if none of them has both kinds."""
        return self._auc_within(self.policies)

    def auc_within_groups(self) -> float | None:
        """Mean over perturbations of each policy; None if none of them has both kinds."""
        return self._auc_within(self.groups)

    def _auc_within(self, groups: npt.NDArray[np.str_]) -> float | None:
        values = []
        for group in np.unique(groups):
            here = groups == group
            if self._both(self.failed[here]):
                values.append(roc_auc(self.scores[here], self.failed[here]))
        return float(np.mean(values)) if values else None

    def without_timeouts(self) -> Snapshot:
        """With those failures alone that nobody could have saved."""
        kept = ~self.timed_out
        return replace(
            self,
            scores=self.scores[kept],
            failed=self.failed[kept],
            timed_out=self.timed_out[kept],
            policies=self.policies[kept],
            groups=self.groups[kept],
        )

    @staticmethod
    def _both(failed: BoolArray) -> bool:
        return bool(failed.any() and not failed.all())


def snapshots_at(
    episodes: Sequence[Episode], scores: Sequence[FloatArray], share: float
) -> dict[str, Snapshot]:
    """Per task, the open episodes at a share of the task's median time to success.

    Tasks of which no episode succeeded have no such time and are left out.

    Args:
        episodes: Judged.
        scores: (T_i,) of each.
        share: Such as 0.5.

    Raises:
        FailureDetectionError: If lengths differ.
    """
    if len(episodes) != len(scores):
        raise FailureDetectionError(f"{len(episodes)} episodes and {len(scores)} scores")
    if not share > 0.0:
        raise FailureDetectionError(f"share is {share}; valid: > 0")
    by_task: dict[str, list[int]] = {e.info.task: [] for e in episodes if e.info.success}
    for index, episode in enumerate(episodes):
        if len(scores[index]) != len(episode):
            raise FailureDetectionError(
                f"{episode.info.episode_id} has {len(episode)} steps and {len(scores[index])} "
                "scores"
            )
        if episode.info.task in by_task:
            by_task[episode.info.task].append(index)
    return {
        task: _snapshot([episodes[i] for i in chosen], [scores[i] for i in chosen], share)
        for task, chosen in by_task.items()
    }


def macro_auc(
    snapshots: Mapping[str, Snapshot], of: Callable[[Snapshot], float | None] = Snapshot.auc
) -> float:
    """Mean over tasks of the AUC within each, or of what ``of`` takes instead.

    Raises:
        FailureDetectionError: If no task has both kinds of episodes.
    """
    values = [of(s) for s in snapshots.values()]
    known = [value for value in values if value is not None]
    if not known:
        raise FailureDetectionError("no task has open episodes of both kinds")
    return float(np.mean(known))


def macro_average_precision(snapshots: Mapping[str, Snapshot]) -> float:
    """Mean over tasks of the average precision within each; raises as ``macro_auc``."""
    known = [
        average_precision(s.scores, s.failed) for s in snapshots.values() if s.auc() is not None
    ]
    if not known:
        raise FailureDetectionError("no task has open episodes of both kinds")
    return float(np.mean(known))


def _snapshot(episodes: Sequence[Episode], scores: Sequence[FloatArray], share: float) -> Snapshot:
    times = [e.info.success_time for e in episodes if e.info.success_time is not None]
    time = share * float(np.median(times))
    kept: list[int] = []
    succeeded = lost = 0
    for index, episode in enumerate(episodes):
        onset = episode.onset_time
        if episode.info.success_time is not None and episode.info.success_time <= time:
            succeeded += 1
        elif onset is not None and onset <= time:
            lost += 1
        else:
            kept.append(index)
    # The last inference not after the time; the first one is at 0.
    steps = [int(np.searchsorted(episodes[i].times, time + 1e-9, "right")) - 1 for i in kept]
    return Snapshot(
        time=time,
        scores=np.array([scores[i][step] for i, step in zip(kept, steps, strict=True)]),
        failed=np.array([not episodes[i].info.success for i in kept], dtype=bool),
        timed_out=np.array([episodes[i].info.outcome is Outcome.TIMEOUT for i in kept], bool),
        policies=np.array([episodes[i].info.policy_id for i in kept], dtype=np.str_),
        groups=np.array(
            [f"{episodes[i].info.policy_id}/{episodes[i].info.perturbation}" for i in kept],
            dtype=np.str_,
        ),
        succeeded_before=succeeded,
        failed_before=lost,
    )


def _counts(failed: BoolArray) -> tuple[int, int]:
    positives = int(failed.sum())
    if positives in (0, len(failed)):
        raise FailureDetectionError(
            f"{positives} failures among {len(failed)} episodes: there is nothing to tell apart"
        )
    return positives, len(failed) - positives
