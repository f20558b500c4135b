# SPDX-License-Identifier: Apache-2.0
"""How much of a policy's success is left under delay, on the same scenes without and with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla_sim.simulation import Simulation

from ..bench.latency import sampler_cost_ratio
from ..open_policy import open_policy
from ..schedules import SCHEDULES
from .evaluate import (
    FILTERS,
    EvaluationConfig,
    evaluation_jobs,
    evaluation_settings,
    run_jobs,
    worker,
)
from .intervals import paired_difference_interval, paired_ratio_interval
from .kept_episodes import KeptEpisodes
from .rollout import TIME_LIMITS, EpisodeResult, run_episode

# What an episode depends on beside its job.
_COMMON = ("robot", "purpose", "images", "flow_steps", "execute_steps", "policy_id")


@dataclass(frozen=True)
class Arm:
    """One way to run scenes.

    Attributes:
        schedule: Name in ``SCHEDULES``.
        delay: Steps from the observation to the chunk's arrival.
        episodes: First scenes per task that are run so; None for all.
    """

    schedule: str
    delay: int
    episodes: int | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """For figures."""
        return f"{self.schedule}_d{self.delay}"


DELAY_FREE = Arm("asynchronous", 0)
# An outcome's place: suite, task, seed.
Scene = tuple[str, str, int]


@dataclass(frozen=True)
class Job:
    """One episode."""

    arm: Arm
    suite: str
    task: str
    seed: int

    @property
    def scene(self) -> Scene:
        """What is run, without how."""
        return self.suite, self.task, self.seed


def compare_delays(
    configs: Sequence[EvaluationConfig],
    arms: Sequence[Arm],
    folder: Path | None = None,
    progress: Callable[[EpisodeResult], None] | None = None,
) -> dict[str, Any]:
    """Runs every scene without delay and under every schedule and delay.

    Without delay means the chunk of an observation is there at once and replaces the one before
    (naive asynchronous with d = 0), for all schedules alike.

    Args:
        configs: Scenes of one suite each, otherwise the same.
        arms: From ``arms_of``.
        folder: Keeps every finished episode; those that it holds already are not run again.
        progress: Called with every finished episode, those of before included.

    Returns:
        Figures, table (one row per arm; with several suites, of each of them, too), settings and
        episodes. With one schedule and one delay the figures have plain names, otherwise those of
        the arms behind them.

    Raises:
        ValueError: If the folder holds episodes of another policy or other settings.
    """
    jobs = jobs_of(configs, arms)
    settings = evaluation_settings(configs[0])
    kept = None
    results: dict[Job, EpisodeResult] = {}
    if folder is not None:
        kept = KeptEpisodes(folder, {name: settings[name] for name in _COMMON})
        wanted = set(jobs)
        found = {_job(entry): _result(entry) for entry in kept.entries}
        results = {job: result for job, result in found.items() if job in wanted}
        for result in results.values():
            _tell(progress, result)
    missing = [job for job in jobs if job not in results]
    for job, result in run_jobs(configs[0], _episode, missing) if missing else ():
        results[job] = result
        if kept is not None:
            kept.add(_entry(job, result))
        _tell(progress, result)
    rows = _rows(configs, arms, {job: results[job].success for job in jobs})
    figures = _figures(rows, plain=len(arms) == 2)
    if any(SCHEDULES[arm.schedule].needs_flow for arm in arms):
        figures["sampler_cost_ratio"] = _cost(configs[0], jobs[0])
    return {
        "figures": figures,
        "table": rows,
        "settings": {
            **settings,
            "suites": [config.suite for config in configs],
            "arms": [vars(arm) for arm in arms],
            "latency_s": None,
        },
        "episodes": [_entry(job, results[job]) for job in jobs],
    }


def arms_of(
    schedules: Sequence[str], delays: Sequence[tuple[int, int | None]], episodes: int
) -> list[Arm]:
    """Every schedule under every delay, the delay-free arm first.

    Args:
        schedules: Names in ``SCHEDULES``.
        delays: Steps, each with the episodes per task that are run so; None for all.
        episodes: Per task.

    Raises:
        ValueError: If a schedule is unknown, or a delay or its number of episodes impossible.
    """
    unknown = [name for name in schedules if name not in SCHEDULES]
    if unknown:
        raise ValueError(f"unknown schedule {unknown[0]!r}; valid: {', '.join(SCHEDULES)}")
    steps = [delay for delay, _ in delays]
    if not delays or not schedules or min(steps) < 0:
        raise ValueError(f"delays are {steps} steps; valid: 0 or more, one at least")
    for delay, count in delays:
        if count is not None and not 1 <= count <= episodes:
            raise ValueError(
                f"{count} episodes at a delay of {delay} steps; valid: 1 to the {episodes} per task"
            )
    arms = [DELAY_FREE]
    for schedule in schedules:
        arms += [Arm(schedule, delay, count) for delay, count in delays]
    return list(dict.fromkeys(arms))


def jobs_of(configs: Sequence[EvaluationConfig], arms: Sequence[Arm]) -> list[Job]:
    """Every episode, scene by scene."""
    jobs = []
    for config in configs:
        for number, (task, seed) in enumerate(evaluation_jobs(config)):
            place = number % config.episodes  # in its task
            jobs += [
                Job(arm, config.suite, task, seed)
                for arm in arms
                if arm.episodes is None or place < arm.episodes
            ]
    return jobs


def _tell(progress: Callable[[EpisodeResult], None] | None, result: EpisodeResult) -> None:
    if progress is not None:
        progress(result)


def _entry(job: Job, result: EpisodeResult) -> dict[str, Any]:
    """An episode as it is kept. Its own ``suite`` is what the scene was drawn for."""
    arm = job.arm
    return {
        "schedule": arm.schedule,
        "delay": arm.delay,
        "of_suite": job.suite,
        **result.to_dict(),
    }


def _job(entry: dict[str, Any]) -> Job:
    arm = Arm(entry["schedule"], entry["delay"])
    return Job(arm, entry["of_suite"], entry["task"], entry["seed"])


def _result(entry: dict[str, Any]) -> EpisodeResult:
    own = {k: v for k, v in entry.items() if k not in ("schedule", "delay", "of_suite")}
    return EpisodeResult(**own)


def _rows(
    configs: Sequence[EvaluationConfig], arms: Sequence[Arm], success: dict[Job, bool]
) -> list[dict[str, Any]]:
    """Rows of all suites together, then of each where there are several."""
    suites = [config.suite for config in configs]
    groups = [suites] if len(suites) == 1 else [suites, *([suite] for suite in suites)]
    rows = []
    for group in groups:
        outcomes: dict[Arm, dict[Scene, bool]] = {arm: {} for arm in arms}
        for job, done in success.items():
            if job.suite in group:
                outcomes[job.arm][job.scene] = done
        rows += [{"suite": "+".join(group), **_row(arm, outcomes)} for arm in arms]
    return rows


def _row(arm: Arm, outcomes: dict[Arm, dict[Scene, bool]]) -> dict[str, Any]:
    """Success of an arm, its share of the delay-free one, and its lead on naive asynchronous."""
    scenes = list(outcomes[arm])
    tasks = np.array([task for _, task, _ in scenes])

    def on_these(other: Arm) -> np.ndarray[Any, Any]:
        return np.array([outcomes[other][scene] for scene in scenes])

    own = on_these(arm)
    row: dict[str, Any] = {
        "arm": arm.name,
        "schedule": arm.schedule,
        "delay": arm.delay,
        "episodes": len(own),
        "success_rate": float(own.mean()),
        **{f"success_rate_{task}": float(own[tasks == task].mean()) for task in np.unique(tasks)},
    }
    free = on_these(DELAY_FREE)
    if arm != DELAY_FREE and free.any():
        row["over_delay_free"] = paired_ratio_interval(own, free, tasks)
    naive = Arm("asynchronous", arm.delay)
    if arm.schedule != "asynchronous" and naive in outcomes:
        row["over_asynchronous"] = paired_difference_interval(own, on_these(naive), tasks)
    return row


def _figures(rows: list[dict[str, Any]], plain: bool) -> dict[str, float]:
    """Figures of all suites together; of each where there are several, its name behind them."""
    together = rows[0]["suite"]
    values: dict[str, float] = {}
    for row in rows:
        behind = "" if row["suite"] == together else f"_{row['suite']}"
        if (row["schedule"], row["delay"]) == (DELAY_FREE.schedule, DELAY_FREE.delay):
            values[f"success_rate_delay_free{behind}"] = row["success_rate"]
            continue
        behind = behind if plain else f"_{row['arm']}{behind}"
        values[f"success_rate{behind}"] = row["success_rate"]
        if "over_delay_free" in row:
            ratio, low, _ = row["over_delay_free"]
            values[f"success_over_delay_free_ratio{behind}"] = ratio
            values[f"success_over_delay_free_ratio{behind}_low"] = low
    return values


def _cost(config: EvaluationConfig, job: Job) -> float:
    """Cost of a guided chunk, measured in this process when the episodes are over."""
    policy = open_policy(config.checkpoint)
    sim = Simulation(config.robot, job.task, job.seed, image_size=policy.spec.image_size)
    try:
        return sampler_cost_ratio(policy, sim.observe())
    finally:
        sim.close()


def _episode(job: Job) -> tuple[Job, EpisodeResult]:
    policy, sim, config = worker(job.task, job.seed, job.suite)
    result = run_episode(
        policy,
        sim,
        time_limit_s=TIME_LIMITS[job.task],
        observation_filter=FILTERS[config.images],
        schedule=job.arm.schedule,
        delay_steps=job.arm.delay,
    )
    return job, result
