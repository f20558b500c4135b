# SPDX-License-Identifier: Apache-2.0
"""How much of a policy's success is left under delay, on the same scenes without and with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from .rollout import TIME_LIMITS, EpisodeResult, run_episode

DELAY_FREE = ("asynchronous", 0)


@dataclass(frozen=True)
class Arm:
    """One way to run every scene.

    Attributes:
        schedule: Name in ``SCHEDULES``.
        delay: Steps from the observation to the chunk's arrival.
    """

    schedule: str
    delay: int

    @property
    def name(self) -> str:
        """For figures."""
        return f"{self.schedule}_d{self.delay}"


@dataclass(frozen=True)
class Job:
    """One episode."""

    arm: Arm
    task: str
    seed: int


def compare_delays(
    config: EvaluationConfig,
    schedules: Sequence[str],
    delays: Sequence[int],
    progress: Callable[[EpisodeResult], None] | None = None,
) -> dict[str, Any]:
    """Runs every scene without delay and under every schedule and delay.

    Without delay means the chunk of an observation is there at once and replaces the one before
    (naive asynchronous with d = 0), for all schedules alike.

    Args:
        config: Scenes and checkpoint.
        schedules: Names in ``SCHEDULES``.
        delays: Steps.
        progress: Called with every finished episode.

    Returns:
        Figures, table (one row per arm), settings and episodes. With one schedule and one delay
        the figures have plain names, otherwise those of the arms behind them.

    Raises:
        ValueError: If a schedule is unknown or a delay impossible.
    """
    arms = arms_of(schedules, delays)
    scenes = evaluation_jobs(config)
    jobs = [Job(arm, task, seed) for task, seed in scenes for arm in arms]
    results: dict[Job, EpisodeResult] = {}
    for job, result in run_jobs(config, _episode, jobs):
        results[job] = result
        if progress is not None:
            progress(result)
    success = {
        arm: np.array([results[Job(arm, *scene)].success for scene in scenes]) for arm in arms
    }
    groups = np.array([task for task, _ in scenes])
    rows = [_row(arm, success, groups) for arm in arms]
    figures = _figures(rows, plain=len(arms) == 2)
    if any(SCHEDULES[name].needs_flow for name in schedules):
        figures["sampler_cost_ratio"] = _cost(config, *scenes[0])
    return {
        "figures": figures,
        "table": rows,
        "settings": {
            **evaluation_settings(config),
            "schedules": list(schedules),
            "delays_steps": list(delays),
            "latency_s": None,
        },
        "episodes": [
            {"schedule": job.arm.schedule, "delay": job.arm.delay, **results[job].to_dict()}
            for job in jobs
        ],
    }


def arms_of(schedules: Sequence[str], delays: Sequence[int]) -> list[Arm]:
    """Every schedule under every delay, the delay-free arm first.

    Raises:
        ValueError: If a schedule is unknown or a delay impossible.
    """
    unknown = [name for name in schedules if name not in SCHEDULES]
    if unknown:
        raise ValueError(f"unknown schedule {unknown[0]!r}; valid: {', '.join(SCHEDULES)}")
    wrong = [delay for delay in delays if delay < 0]
    if wrong or not delays or not schedules:
        raise ValueError(f"delays are {list(delays)} steps; valid: 0 or more, one at least")
    arms = [Arm(*DELAY_FREE)]
    for schedule in schedules:
        arms += [Arm(schedule, delay) for delay in delays]
    return list(dict.fromkeys(arms))


def _row(
    arm: Arm, success: dict[Arm, np.ndarray[Any, Any]], groups: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Success of an arm, its share of the delay-free one, and its lead on naive asynchronous."""
    own = success[arm]
    row: dict[str, Any] = {
        "arm": arm.name,
        "schedule": arm.schedule,
        "delay": arm.delay,
        "episodes": len(own),
        "success_rate": float(own.mean()),
        **{f"success_rate_{task}": float(own[groups == task].mean()) for task in np.unique(groups)},
    }
    free = success[Arm(*DELAY_FREE)]
    if arm != Arm(*DELAY_FREE) and free.any():
        row["over_delay_free"] = paired_ratio_interval(own, free, groups)
    naive = success.get(Arm("asynchronous", arm.delay))
    if arm.schedule != "asynchronous" and naive is not None:
        row["over_asynchronous"] = paired_difference_interval(own, naive, groups)
    return row


def _figures(rows: list[dict[str, Any]], plain: bool) -> dict[str, float]:
    values = {"success_rate_delay_free": rows[0]["success_rate"]}
    for row in rows[1:]:
        behind = "" if plain else f"_{row['arm']}"
        values[f"success_rate{behind}"] = row["success_rate"]
        if "over_delay_free" in row:
            ratio, low, _ = row["over_delay_free"]
            values[f"success_over_delay_free_ratio{behind}"] = ratio
            values[f"success_over_delay_free_ratio{behind}_low"] = low
    return values


def _cost(config: EvaluationConfig, task: str, seed: int) -> float:
    """Cost of a guided chunk, measured in this process when the episodes are over."""
    policy = open_policy(config.checkpoint)
    sim = Simulation(config.robot, task, seed, image_size=policy.spec.image_size)
    try:
        return sampler_cost_ratio(policy, sim.observe())
    finally:
        sim.close()


def _episode(job: Job) -> tuple[Job, EpisodeResult]:
    policy, sim, config = worker(job.task, job.seed)
    result = run_episode(
        policy,
        sim,
        time_limit_s=TIME_LIMITS[job.task],
        observation_filter=FILTERS[config.images],
        schedule=job.arm.schedule,
        delay_steps=job.arm.delay,
    )
    return job, result
