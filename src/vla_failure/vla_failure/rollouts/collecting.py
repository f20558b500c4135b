# SPDX-License-Identifier: Apache-2.0
"""Many rollouts, shard by shard; what is there already is not made again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_policy import load_policy, read_manifest
from vla_policy.evaluation.evaluate import SUITES, EvaluationConfig, check_seeds, run_jobs, worker
from vla_sim import seeds as sim_seeds
from vla_sim import tasks

from .. import store
from ..binding import Binding
from ..episodes import EpisodeInfo, FailureDetectionError, Outcome
from .onset import find_onset
from .perturbations import PERTURBATIONS, REACH, Perturbation
from .recording import record_episode

Progress = Callable[["ShardReport"], None]


@dataclass(frozen=True)
class RolloutConfig:
    """What to run.

    Attributes:
        checkpoint: Folder of the policy.
        folder: Receives the rollouts.
        suite: How scenes are drawn; see ``vla eval``.
        tasks: Names of the tasks; none for those of the suite.
        robot: Name of the robot.
        episodes: Per task.
        first: Offset of the first seed in the range of rollouts.
        perturbations: Of which one is drawn per seed; see ``PERTURBATIONS``.
        samples: Chunks per inference in the episodes that have several.
        sampled: So many episodes per task, the first ones, have several.
        shard: Episodes per shard.
        workers: Processes, each with one torch thread.
    """

    checkpoint: Path
    folder: Path
    suite: str = "core"
    tasks: tuple[str, ...] = ()
    robot: str = "panda"
    episodes: int = 400
    first: int = 0
    perturbations: tuple[str, ...] = PERTURBATIONS
    samples: int = 10
    sampled: int = 100
    shard: int = 10
    workers: int = 2

    def __post_init__(self) -> None:
        if self.suite not in SUITES:
            raise FailureDetectionError(f"unknown suite {self.suite!r}; valid: {', '.join(SUITES)}")
        for task in self.tasks:
            tasks.get(task)  # which knows the valid ones
        Perturbation.draw(self.perturbations, 0)  # which checks them
        for name, least in (
            ("episodes", 1),
            ("first", 0),
            ("samples", 1),
            ("sampled", 0),
            ("shard", 1),
            ("workers", 1),
        ):
            if getattr(self, name) < least:
                raise FailureDetectionError(
                    f"{name} is {getattr(self, name)}; valid: {least} or more"
                )


@dataclass(frozen=True)
class ShardReport:
    """What one shard took.

    Attributes:
        name: Of the shard.
        episodes: In it.
        simulated_s: Length of its episodes together.
        core_s: Processor time of the policy's episodes.
        onset_core_s: Processor time of finding when they were lost.
    """

    name: str
    episodes: int
    simulated_s: float
    core_s: float
    onset_core_s: float


@dataclass(frozen=True)
class Shard:
    """Some episodes of one task, written together."""

    config: RolloutConfig
    task: str
    seeds: range

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.task}-{self.seeds.start}-{len(self.seeds)}"


def collect_rollouts(config: RolloutConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Runs what is missing of the rollouts.

    Args:
        config: What to run.
        progress: Called with every finished shard, in no particular order.

    Returns:
        Figures and settings; the figures on time are of what was run now.

    Raises:
        FailureDetectionError: If the folder holds rollouts of other settings.
        PolicyError: If the checkpoint is incomplete or has seen these seeds.
    """
    seeds = sim_seeds.seeds("rollouts", config.episodes, config.first)
    check_seeds(read_manifest(config.checkpoint), seeds, "rollouts")
    settings = rollout_settings(config)
    store.write_manifest(config.folder, settings)
    missing = missing_shards(config)
    reports = []
    evaluation = EvaluationConfig(
        config.checkpoint, config.suite, config.robot, workers=config.workers
    )
    for report in run_jobs(evaluation, _run_shard, missing) if missing else ():
        reports.append(report)
        if progress is not None:
            progress(report)
    infos = store.read_table(config.folder)
    return {
        "figures": {**rollout_figures(infos), **_times(reports)},
        "settings": settings,
    }


def missing_shards(config: RolloutConfig) -> list[Shard]:
    """What is still to be run."""
    seeds = sim_seeds.seeds("rollouts", config.episodes, config.first)
    shards = [
        Shard(config, task, seeds[begin : begin + config.shard])
        for task in config.tasks or SUITES[config.suite]
        for begin in range(0, len(seeds), config.shard)
    ]
    return [shard for shard in shards if not store.has_shard(config.folder, shard.name)]


def rollout_settings(config: RolloutConfig) -> dict[str, Any]:
    """What must be the same for all rollouts of a folder; tasks may be added.

    The seeds too: other ones are cut into other shards, which would overlap.
    """
    seeds = sim_seeds.seeds("rollouts", config.episodes, config.first)
    return {
        "suite": config.suite,
        "robot": config.robot,
        "perturbations": {kind: REACH[kind] for kind in config.perturbations},
        "samples": config.samples,
        "sampled_per_task": config.sampled,
        "seeds": [seeds[0], seeds[-1]],
        "shard": config.shard,
        "binding": Binding.of(load_policy(config.checkpoint).spec).to_dict(),
    }


def rollout_figures(infos: list[EpisodeInfo]) -> dict[str, float]:
    """Counts and shares of outcomes."""
    outcomes = [info.outcome for info in infos]
    return {
        "episodes_count": len(infos),
        "tasks_count": len({info.task for info in infos}),
        **{f"{o}_rate": outcomes.count(o) / len(outcomes) for o in Outcome},
    }


def _times(reports: list[ShardReport]) -> dict[str, float]:
    episodes = sum(report.episodes for report in reports)
    if not episodes:
        return {}
    return {
        "core_seconds_per_episode_s": sum(r.core_s for r in reports) / episodes,
        "onset_core_seconds_per_episode_s": sum(r.onset_core_s for r in reports) / episodes,
        "episode_length_s": sum(r.simulated_s for r in reports) / episodes,
    }


def _run_shard(shard: Shard) -> ShardReport:
    config = shard.config
    sampled = sim_seeds.seeds("rollouts", config.sampled, config.first)
    began, lost = time.process_time(), 0.0

    def timed_onset(*arguments: Any) -> int | None:
        nonlocal lost
        start = time.process_time()
        found = find_onset(*arguments)
        lost += time.process_time() - start
        return found

    episodes = []
    for seed in shard.seeds:
        policy, sim, _ = worker(shard.task, seed)
        episodes.append(
            record_episode(
                policy,
                sim,
                Perturbation.draw(config.perturbations, seed),
                samples=config.samples if seed in sampled else 1,
                onset=timed_onset,
            )
        )
    store.write_shard(config.folder, shard.name, episodes)
    return ShardReport(
        shard.name,
        len(episodes),
        float(np.sum([episode.end_time for episode in episodes])),
        time.process_time() - began - lost,
        lost,
    )
