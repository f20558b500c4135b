# SPDX-License-Identifier: Apache-2.0
"""Alarms against what happened: false ones per episode, and how soon after the onset true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..episodes import Episode, FailureDetectionError, Outcome
from .intervals import clopper_pearson
from .ranking import balanced_accuracy

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


def alarm_figures(alarms: Sequence[Alarm]) -> dict[str, float]:
    """Rates of alarms; timeouts are counted apart.

    ``false_alarm_rate`` is per successful episode, with an exact 95 % interval.
    ``failures_flagged_in_time_rate`` counts alarms up to ``IN_TIME`` after the onset, early ones
    included; ``failures_flagged_ahead_rate`` only those before it.

    Raises:
        FailureDetectionError: If there are no successes or no failures.
    """
    outcomes = np.array([alarm.episode.info.outcome for alarm in alarms])
    alarmed = np.array([alarm.first_alarm is not None for alarm in alarms], dtype=bool)
    success, failure = outcomes == Outcome.SUCCESS, outcomes == Outcome.FAILURE
    timeout = outcomes == Outcome.TIMEOUT
    if not success.any() or not failure.any():
        raise FailureDetectionError(
            f"{success.sum()} successes and {failure.sum()} failures; needed are some of both"
        )
    delays = [alarm.delay for alarm in alarms if alarm.episode.info.outcome is Outcome.FAILURE]
    known = np.array([delay for delay in delays if delay is not None])
    false_alarms = int(alarmed[success].sum())
    low, high = clopper_pearson(false_alarms, int(success.sum()))
    settled = success | failure
    figures = {
        "false_alarm_rate": false_alarms / float(success.sum()),
        "false_alarm_rate_low": low,
        "false_alarm_rate_high": high,
        "detection_rate": float(alarmed[failure].mean()),
        "failures_flagged_in_time_rate": float((known <= IN_TIME).sum()) / len(delays),
        "failures_flagged_ahead_rate": float((known < 0.0).sum()) / len(delays),
        "balanced_accuracy": balanced_accuracy(alarmed[settled], failure[settled]),
        "successes_count": float(success.sum()),
        "failures_count": float(failure.sum()),
        "timeouts_count": float(timeout.sum()),
    }
    if len(known):
        figures["detection_delay_p50_s"] = float(np.median(known))
    if timeout.any():
        figures["timeouts_flagged_rate"] = float(alarmed[timeout].mean())
    return figures
