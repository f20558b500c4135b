# SPDX-License-Identifier: Apache-2.0
"""Alarms against what happened: false ones per episode, and how soon after the onset true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..episodes import Episode, FailureDetectionError, FloatArray, Outcome
from .intervals import clopper_pearson
from .ranking import BoolArray, balanced_accuracy

# A failure is flagged in time if the alarm comes no later than this after its onset, s.
IN_TIME = 1.0


@dataclass(frozen=True)
class Alarm:
    """An episode and when it was alarmed at.

    Attributes:
        episode: Judged.
        first_alarm: Step of the first alarm; None for none.
    """

    episode: Episode
    first_alarm: int | None

    @property
    def time(self) -> float | None:
        """Of the first alarm, s since the start of the episode."""
        return None if self.first_alarm is None else float(self.episode.times[self.first_alarm])

    @property
    def delay(self) -> float | None:
        """From the onset of the failure to the alarm, s; negative = it came before."""
        onset = self.episode.onset_time
        return None if self.time is None or onset is None else self.time - onset


def times_to_success(alarms: Sequence[Alarm]) -> dict[str, float]:
    """Median time to success of every task that has successes, s."""
    times: dict[str, list[float]] = {}
    for alarm in alarms:
        info = alarm.episode.info
        if info.success_time is not None:
            times.setdefault(info.task, []).append(info.success_time)
    return {task: float(np.median(found)) for task, found in times.items()}


def in_time(alarm: Alarm, needed: Mapping[str, float]) -> bool | None:
    """Whether an episode that did not succeed was flagged while it still helped.

    A failure: no later than ``IN_TIME`` after its onset. A timeout, which could have been saved all
    along: while so much of its time was left as the task usually takes.

    Args:
        alarm: First one of the episode.
        needed: Per task how long it usually takes, see ``times_to_success``.

    Returns:
        None for a success, and for a timeout of a task at which nothing succeeds.
    """
    episode = alarm.episode
    if episode.info.outcome is Outcome.FAILURE:
        return alarm.delay is not None and alarm.delay <= IN_TIME
    if episode.info.success or episode.info.task not in needed:
        return None
    return alarm.time is not None and (episode.end_time - alarm.time >= needed[episode.info.task])


def rate_figures(name: str, hits: Sequence[float] | FloatArray | BoolArray) -> dict[str, float]:
    """A rate and its exact 95 % interval, as ``name``, ``name_low`` and ``name_high``.

    Args:
        name: Of the rate.
        hits: (n,) 0 or 1 of each trial, n at least one; a trial that was repeated has the mean of
            its repeats, and their sum is rounded.
    """
    rate = float(np.mean(hits))
    low, high = clopper_pearson(round(rate * len(hits)), len(hits))
    return {name: rate, f"{name}_low": low, f"{name}_high": high}


def alarm_figures(alarms: Sequence[Alarm]) -> dict[str, float]:
    """Rates of alarms with exact 95 % intervals; timeouts are counted apart.

    ``false_alarm_rate`` is per successful episode. ``failures_flagged_in_time_rate`` and
    ``timeouts_flagged_in_time_rate`` are as ``in_time`` says, early alarms included;
    ``failures_flagged_ahead_rate`` counts only those before the onset. Rates of what did not occur
    are absent.

    Raises:
        FailureDetectionError: If there are no successes.
    """
    outcomes = np.array([alarm.episode.info.outcome for alarm in alarms])
    alarmed = np.array([alarm.first_alarm is not None for alarm in alarms], dtype=bool)
    success, failure = outcomes == Outcome.SUCCESS, outcomes == Outcome.FAILURE
    timeout = outcomes == Outcome.TIMEOUT
    if not success.any():
        raise FailureDetectionError(f"no success among {len(alarms)} episodes; needed is one")
    figures = {
        **rate_figures("false_alarm_rate", alarmed[success]),
        "successes_count": float(success.sum()),
        "failures_count": float(failure.sum()),
        "timeouts_count": float(timeout.sum()),
    }
    needed = times_to_success(alarms)
    for kind, those in (("failures", failure), ("timeouts", timeout)):
        kept = [alarm for alarm, chosen in zip(alarms, those, strict=True) if chosen]
        flagged = [found for found in (in_time(a, needed) for a in kept) if found is not None]
        if flagged:
            figures |= rate_figures(f"{kind}_flagged_in_time_rate", flagged)
    if failure.any():
        delays = [alarm.delay for alarm in alarms if alarm.delay is not None]
        settled = success | failure
        figures |= rate_figures("detection_rate", alarmed[failure])
        figures["failures_flagged_ahead_rate"] = float(
            np.sum(np.array(delays) < 0.0) / failure.sum()
        )
        figures["balanced_accuracy"] = balanced_accuracy(alarmed[settled], failure[settled])
        if delays:
            figures["detection_delay_p50_s"] = float(np.median(delays))
    if timeout.any():
        figures |= rate_figures("timeouts_flagged_rate", alarmed[timeout])
    return figures
