# SPDX-License-Identifier: Apache-2.0
"""What a detector is worth to the robot: the same scenes without it, with it, and at random times.

Every scene is run three times within the same time: nobody watches; a detector watches, and the arm
goes back where it says so; and the same with alarms drawn at random, as often per inference as the
detector's. Whatever asks for help ends the episode: there is nobody to help.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vla_policy.evaluation.evaluate import (
    EvaluationConfig,
    evaluation_jobs,
    evaluation_settings,
    run_jobs,
    worker,
)
from vla_policy.evaluation.intervals import paired_difference_interval, wilson_interval
from vla_policy.evaluation.rollout import TIME_LIMITS, EpisodeResult, Inference, run_episode
from vla_policy.interface import Policy
from vla_policy.open_policy import open_policy

from .binding import Binding
from .decision import Decision
from .episodes import FailureDetectionError, Start
from .loading import load_monitor
from .monitor import Monitor, MonitorConfig
from .reaction.lockstep import Judge, LockstepWatch, Report, Verdict, monitor_judge

UNWATCHED, WATCHED, RANDOM = "unwatched", "watched", "random"
ARMS = (UNWATCHED, WATCHED, RANDOM)


@dataclass(frozen=True)
class Watching:
    """How the episodes are watched.

    Attributes:
        detector: Folder of a calibrated detector.
        retries: How often per episode the arm may go back, before it asks.
        drift_level: See ``MonitorConfig``.
    """

    detector: Path
    retries: int = 1
    drift_level: float = MonitorConfig.drift_level

    @property
    def monitor(self) -> MonitorConfig:
        """Of the monitor."""
        return MonitorConfig(
            reaction=Decision.BACKTRACK, retries=self.retries, drift_level=self.drift_level
        )


@dataclass(frozen=True)
class Chances:
    """Of the random control, per inference, as they were with the detector.

    Attributes:
        alarm: Of an alarm.
        confident: Of an observation to which the arm may go back.
    """

    alarm: float = 0.0
    confident: float = 0.0


@dataclass(frozen=True)
class Job:
    """One episode."""

    arm: str
    watching: Watching
    task: str
    seed: int
    chances: Chances = field(default_factory=Chances)


@dataclass(frozen=True)
class Watched:
    """How an episode went; nothing is reported of one that nobody watched."""

    result: EpisodeResult
    report: Report


def compare_with_detector(
    config: EvaluationConfig,
    watching: Watching,
    progress: Callable[[EpisodeResult], None] | None = None,
) -> dict[str, Any]:
    """Runs every scene three times, see above.

    Args:
        config: Scenes and checkpoint; ``images`` must be ``none``.
        watching: How they are watched.
        progress: Called with every finished episode.

    Returns:
        Figures, a table with a row per arm, settings and episodes.

    Raises:
        FailureDetectionError: If there is no calibration, or it is not for this policy.
    """
    if config.images != "none":
        raise FailureDetectionError(f"images is {config.images!r}; valid here: none")
    monitor = _monitor(watching, Binding.of(open_policy(config.checkpoint).spec))
    calibration = monitor.calibration
    assert calibration is not None  # or _monitor had refused
    scenes = evaluation_jobs(config)
    done: dict[tuple[str, str, int], Watched] = {}

    def run(arms: Sequence[str], chances: Chances) -> None:
        jobs = [Job(arm, watching, *scene, chances) for scene in scenes for arm in arms]
        for job, watched in run_jobs(config, _episode, jobs):
            done[job.arm, job.task, job.seed] = watched
            if progress is not None:
                progress(watched.result)

    run((UNWATCHED, WATCHED), Chances())
    chances = _chances([done[WATCHED, *scene].report for scene in scenes])
    run((RANDOM,), chances)
    by_arm = {arm: [done[arm, *scene] for scene in scenes] for arm in ARMS}
    tasks = np.array([task for task, _ in scenes])
    return {
        "figures": _figures(by_arm, tasks),
        "table": [_row(arm, by_arm[arm]) for arm in ARMS],
        "settings": {
            **evaluation_settings(config),
            "detector": str(watching.detector),
            "detector_id": monitor.detector_id,
            "calibration_id": calibration.calibration_id,
            "alpha": calibration.bands.pooled.alpha,
            "retries": watching.retries,
            "drift_level": watching.drift_level,
            "random_alarm_chance_per_inference": chances.alarm,
        },
        "episodes": [
            {"arm": arm, **one.result.to_dict(), **asdict(one.report)}
            for arm in ARMS
            for one in by_arm[arm]
        ],
    }


def _episode(job: Job) -> tuple[Job, Watched]:
    policy, sim, _ = worker(job.task, job.seed)
    if job.arm == UNWATCHED:
        return job, Watched(run_episode(policy, sim, time_limit_s=TIME_LIMITS[job.task]), Report())
    judge, went_back = _judge(job, policy)
    watch = LockstepWatch(sim, judge, went_back)
    result = run_episode(policy, sim, time_limit_s=TIME_LIMITS[job.task], watch=watch)
    return job, Watched(result, watch.report)


def _judge(job: Job, policy: Policy) -> tuple[Judge, Callable[[], None]]:
    if job.arm == RANDOM:
        control = RandomAlarms(job.chances, job.watching.retries, job.seed)
        return control.judge, control.went_back
    spec = policy.spec
    monitor = _monitor(job.watching, Binding.of(spec))
    start = Start(f"{job.task}-{job.seed}", job.task, "", spec.step_dt, spec.execute_steps)
    return monitor_judge(monitor, start, spec.latency_s), monitor.went_back


@cache
def _monitor(watching: Watching, running: Binding) -> Monitor:
    monitor = load_monitor(watching.detector, running, watching.monitor)
    if monitor.calibration is None:
        raise FailureDetectionError(
            f"{watching.detector} holds no calibration; `vla failure calibrate` makes one"
        )
    wrong = monitor.calibration.mismatches(running, monitor.detector_id)
    if wrong:
        raise FailureDetectionError(f"not what was calibrated: {'; '.join(wrong)}")
    return monitor


class RandomAlarms:
    """The control: alarms that know nothing of the episode.

    Args:
        chances: Per inference.
        retries: How often it goes back before it asks.
        seed: Of the scene.
    """

    def __init__(self, chances: Chances, retries: int, seed: int) -> None:
        self._chances = chances
        self._left = retries
        self._rng = np.random.default_rng([seed, 9])

    def judge(self, inference: Inference, time_s: float) -> Verdict:
        """See ``reaction.lockstep.Judge``."""
        del inference, time_s
        alarm, confident = self._rng.uniform(size=2) < (
            self._chances.alarm,
            self._chances.confident,
        )
        if not alarm:
            return Verdict(Decision.OK, "", np.inf if confident else 0.0)
        decision = Decision.BACKTRACK if self._left > 0 else Decision.ASK_HELP
        return Verdict(decision, "drawn at random", -1.0)

    def went_back(self) -> None:
        """One retry fewer."""
        self._left -= 1


def _chances(reports: Sequence[Report]) -> Chances:
    judged = max(1, sum(report.judged for report in reports))
    return Chances(
        sum(report.alarms for report in reports) / judged,
        sum(report.confident for report in reports) / judged,
    )


def _row(arm: str, episodes: Sequence[Watched]) -> dict[str, Any]:
    count, wins = len(episodes), sum(one.result.success for one in episodes)
    lost = [one for one in episodes if not one.result.success]
    return {
        "arm": arm,
        "episodes": count,
        "success_rate": wins / count,
        "success_wilson_95": wilson_interval(wins, count),
        "retries_per_episode": sum(one.report.retries for one in episodes) / count,
        "alarmed_rate": sum(one.report.alarms > 0 for one in episodes) / count,
        "asked_rate": sum(bool(one.report.ended) for one in episodes) / count,
        "unannounced_failure_rate": sum(not one.report.ended for one in lost) / count,
    }


def _figures(by_arm: dict[str, list[Watched]], tasks: np.ndarray[Any, Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    for arm in ARMS:
        row = _row(arm, by_arm[arm])
        names = ["success_rate", "unannounced_failure_rate"]
        if arm != UNWATCHED:
            names += ["retries_per_episode", "alarmed_rate", "asked_rate"]
        values.update({f"{name}_{arm}": row[name] for name in names})
    success = {arm: np.array([one.result.success for one in by_arm[arm]]) for arm in ARMS}
    for other in (UNWATCHED, RANDOM):
        found = paired_difference_interval(success[WATCHED], success[other], tasks)
        for name, value in zip(("", "_low", "_high"), found, strict=True):
            values[f"success_over_{other}_difference{name}"] = value
    # Up to the first alarm the two runs of a scene are the same to the last bit.
    calm = [
        watched.report.alarms > 0
        for watched, alone in zip(by_arm[WATCHED], by_arm[UNWATCHED], strict=True)
        if alone.result.success
    ]
    if calm:
        values["false_alarm_rate"] = sum(calm) / len(calm)
        values["false_alarm_rate_low"], values["false_alarm_rate_high"] = wilson_interval(
            sum(calm), len(calm)
        )
    return values
