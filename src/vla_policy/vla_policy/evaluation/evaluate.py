# SPDX-License-Identifier: Apache-2.0
"""Closed-loop evaluation in lockstep: the same answer on every machine and under any load."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from vla_sim import seeds as sim_seeds
from vla_sim import suites
from vla_sim.simulation import Simulation

from ..checkpoint import add_selection_seeds, read_manifest
from ..interface import Policy
from ..open_policy import open_policy
from ..serving.connect import is_remote
from ..types import SeedOverlapError
from .causality import PairResult, colour_pair
from .figures import figures, table
from .intervals import paired_difference_interval, wilson_interval
from .kept_episodes import KeptEpisodes
from .rollout import TIME_LIMITS, EpisodeResult, black_images, run_episode

# The tasks of every suite; a task alone is drawn as in ``basic``.
SUITES: dict[str, tuple[str, ...]] = {
    **{name: suite.tasks for name, suite in suites.SUITES.items()},
    **{task: (task,) for task in TIME_LIMITS},
}
# Settings that all kept episodes of a folder have in common.
_COMMON = ("suite", "robot", "purpose", "images", "latency_s", "flow_steps", "policy_id")
FILTERS = {"none": None, "black": black_images}

Progress = Callable[[EpisodeResult], None]
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class EvaluationConfig:
    """What to evaluate.

    Attributes:
        checkpoint: Folder of the checkpoint, or a server: see ``serving.connect``.
        suite: Name in ``SUITES``.
        tasks: Of any suite, drawn as in this one; empty for its own.
        robot: Name of the robot.
        episodes: Per task.
        first: Offset of the first seed in its range.
        purpose: Range of seeds: ``evaluation``, or ``selection`` while a policy is chosen.
        images: Name in ``FILTERS``; ``black`` is the control that must fail.
        workers: Processes, each with one torch thread.
    """

    checkpoint: Path | str
    suite: str = "basic"
    robot: str = "panda"
    episodes: int = 200
    first: int = 0
    purpose: str = "evaluation"
    images: str = "none"
    workers: int = 2
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value, valid in (
            ("suite", self.suite, SUITES),
            ("images", self.images, FILTERS),
        ):
            if value not in valid:
                raise ValueError(f"unknown {name} {value!r}; valid: {', '.join(valid)}")
        unknown = sorted(set(self.tasks) - set(TIME_LIMITS))
        if unknown:
            raise ValueError(f"unknown tasks {unknown}; valid: {', '.join(TIME_LIMITS)}")
        if self.purpose not in ("evaluation", "selection"):
            raise ValueError(f"unknown purpose {self.purpose!r}; valid: evaluation, selection")
        if self.episodes < 1 or self.workers < 1:
            raise ValueError(
                f"episodes ({self.episodes}) and workers ({self.workers}) must be 1 or more"
            )

    @property
    def chosen(self) -> tuple[str, ...]:
        """The tasks that are run."""
        return self.tasks or SUITES[self.suite]


def evaluate(
    config: EvaluationConfig, progress: Progress | None = None, folder: Path | None = None
) -> dict[str, Any]:
    """Runs a suite and returns figures, figures per task, settings and episodes.

    Args:
        config: What to evaluate.
        progress: Called with every finished episode, in no particular order.
        folder: Keeps every finished episode; those that it holds already are not run again.

    Raises:
        SeedOverlapError: If a seed was used to train or select the policy.
        CheckpointError: If the checkpoint is incomplete.
        ValueError: If the folder holds episodes of another policy or other settings.
    """
    jobs = evaluation_jobs(config)
    settings = evaluation_settings(config)
    results: list[EpisodeResult] = []
    kept = None
    if folder is not None:
        kept = KeptEpisodes(folder, {name: settings[name] for name in _COMMON})
        found = [EpisodeResult(**entry) for entry in kept.entries]
        results = [result for result in found if (result.task, result.seed) in set(jobs)]
        for result in results:
            if progress is not None:
                progress(result)
    done = {(result.task, result.seed) for result in results}
    missing = [job for job in jobs if job not in done]
    for result in run_jobs(config, _episode, missing) if missing else ():
        results.append(result)
        if kept is not None:
            kept.add(result.to_dict())
        if progress is not None:
            progress(result)
    order = {job: i for i, job in enumerate(jobs)}
    results.sort(key=lambda r: order[r.task, r.seed])
    return {
        "figures": figures(results),
        "table": table(results),
        "settings": settings,
        "episodes": [result.to_dict() for result in results],
    }


def evaluate_suites(
    configs: Sequence[EvaluationConfig],
    progress: Progress | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Runs several suites of one policy.

    Args:
        configs: One per suite.
        progress: As of ``evaluate``.
        folder: Receives a folder of finished episodes per suite; see ``evaluate``.

    Returns:
        As ``evaluate``. The figures are those of the first suite, and each of the others' behind
        the name of its suite; table and episodes say which suite they belong to.

    Raises:
        As ``evaluate``.
    """
    runs = [
        evaluate(config, progress, None if folder is None else folder / config.suite)
        for config in configs
    ]
    values = dict(runs[0]["figures"])
    for config, run in zip(configs[1:], runs[1:], strict=True):
        values.update({f"{name}_{config.suite}": v for name, v in run["figures"].items()})
    return {
        "figures": values,
        "table": [row for run in runs for row in run["table"]],
        "settings": {**runs[0]["settings"], "suites": [run["settings"] for run in runs[1:]]},
        "episodes": [episode for run in runs for episode in run["episodes"]],
    }


def compared(result: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """An evaluation with how it differs from another one of the same scenes.

    Args:
        result: As ``evaluate`` and ``evaluate_suites`` return it.
        other: The same of another policy; it may hold further scenes.

    Returns:
        The first, with ``success_difference`` and the ends of its 95 % paired bootstrap interval
        among the figures, and the other's policy among the settings.

    Raises:
        ValueError: The other lacks a scene, naming it.
    """

    def scene(episode: dict[str, Any]) -> tuple[str, str, int]:
        return episode["suite"], episode["task"], episode["seed"]

    found = {scene(episode): bool(episode["success"]) for episode in other["episodes"]}
    ours = {scene(episode): bool(episode["success"]) for episode in result["episodes"]}
    lacking = sorted(set(ours) - set(found))
    if lacking:
        raise ValueError(f"it lacks {len(lacking)} of the {len(ours)} scenes, e.g. {lacking[0]}")
    difference, low, high = paired_difference_interval(
        list(ours.values()),
        [found[name] for name in ours],
        ["/".join(name[:2]) for name in ours],
    )
    values = {
        "success_difference": difference,
        "success_difference_low": low,
        "success_difference_high": high,
    }
    return {
        **result,
        "figures": {**result["figures"], **values},
        "settings": {**result["settings"], "against": other["settings"]["policy_id"]},
    }


def evaluate_pairs(
    config: EvaluationConfig, progress: Callable[[PairResult | None], None] | None = None
) -> dict[str, Any]:
    """Runs every scene twice with another cube named, which a policy that listens goes for.

    Args:
        config: What to evaluate; ``images`` must be ``none``.
        progress: Called with every finished pair, in no particular order; None for one skipped.

    Returns:
        Figures, settings and pairs. ``other_object_rate`` is the share of pairs in which the other
        name led to another object, ``named_object_rate`` the share of episodes that went for the
        named one, ``skipped_count`` the number of scenes that hold nothing else to name.

    Raises:
        ValueError: No scene holds anything else to name.
        SeedOverlapError: If a seed was used to train or select the policy.
        CheckpointError: If the checkpoint is incomplete.
    """
    if config.images != "none":
        raise ValueError(f"pairs need images; --images {config.images} takes them away")
    pairs: list[PairResult] = []
    jobs = evaluation_jobs(config)
    for pair in run_jobs(config, _pair, jobs):
        if pair is not None:
            pairs.append(pair)
        if progress is not None:
            progress(pair)
    if not pairs:
        raise ValueError(f"no scene of {config.suite!r} holds anything else that could be named")
    pairs.sort(key=lambda p: (p.first.task, p.seed))
    different = sum(pair.different for pair in pairs)
    low, high = wilson_interval(different, len(pairs))
    hits = [
        chosen == episode.named_object
        for pair in pairs
        for chosen, episode in zip(pair.chosen, (pair.first, pair.second), strict=True)
    ]
    return {
        "figures": {
            "other_object_rate": different / len(pairs),
            "other_object_rate_wilson_low": low,
            "other_object_rate_wilson_high": high,
            "named_object_rate": sum(hits) / len(hits),
            "skipped_count": len(jobs) - len(pairs),
        },
        "settings": evaluation_settings(config),
        "pairs": [pair.to_dict() for pair in pairs],
    }


def evaluation_jobs(config: EvaluationConfig) -> list[tuple[str, int]]:
    """Task and seed of every scene.

    Refuses seeds that the checkpoint has seen, and notes those of a selection in its manifest.
    """
    seeds = list(sim_seeds.seeds(config.purpose, config.episodes, config.first))
    if not is_remote(config.checkpoint):  # what a server's policy has seen is not known
        check_seeds(read_manifest(Path(config.checkpoint)), seeds, config.purpose)
        if config.purpose == "selection":
            add_selection_seeds(Path(config.checkpoint), seeds)
    return [(task, seed) for task in config.chosen for seed in seeds]


def evaluation_settings(config: EvaluationConfig) -> dict[str, Any]:
    """What was evaluated, for the record."""
    policy = open_policy(config.checkpoint)
    seeds = list(sim_seeds.seeds(config.purpose, config.episodes, config.first))
    return {
        "suite": config.suite,
        "robot": config.robot,
        "episodes_per_task": config.episodes,
        "purpose": config.purpose,
        "seeds": [seeds[0], seeds[-1]],
        "images": config.images,
        "latency_s": policy.spec.latency_s,
        "flow_steps": policy.spec.feature_shape[0],
        "execute_steps": policy.spec.execute_steps,
        "time_limits_s": {task: TIME_LIMITS[task] for task in config.chosen},
        "threads_per_worker": 1,
        "policy_id": policy.spec.policy_id,
    }


def check_seeds(manifest: dict[str, Any], seeds: Iterable[int], purpose: str) -> None:
    """Refuses seeds that a checkpoint has seen.

    Args:
        manifest: Of the checkpoint.
        seeds: To be used now.
        purpose: ``selection`` may repeat selection seeds, ``evaluation`` may not.

    Raises:
        SeedOverlapError: Naming up to five of the shared seeds.
    """
    wanted = set(seeds)
    used: dict[str, set[int]] = {"selection": set(manifest["selection_seeds"])}
    for entry in manifest["demonstrations"]:
        seen = used.setdefault(f"demonstrations of {entry['task']}", set())
        seen.update(entry["seeds"], entry["failed_seeds"])
    for use, other in used.items():
        if use == purpose:
            continue
        shared = sorted(wanted & other)
        if shared:
            raise SeedOverlapError(
                f"{len(shared)} seeds for {purpose} were used as {use}, e.g. {shared[:5]}"
            )


def use_deterministic_torch() -> None:
    """One thread and deterministic kernels: results do not depend on the machine's load."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def run_jobs(
    config: EvaluationConfig, work: Callable[[_Job], _Result], jobs: Sequence[_Job]
) -> Iterable[_Result]:
    """Results of some jobs, in no particular order; ``work`` calls ``worker`` for its scene."""
    if config.workers == 1:
        _start_worker(config)
        yield from map(work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(config.workers, _start_process, (config,)) as pool:
        yield from pool.imap_unordered(work, jobs)


_worker: dict[str, Any] = {}


def _start_process(config: EvaluationConfig) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started it
    _start_worker(config)


def _start_worker(config: EvaluationConfig) -> None:
    use_deterministic_torch()
    _worker["config"] = config
    _worker["policy"] = open_policy(config.checkpoint)
    _worker["sim"] = None


def worker(
    task: str, seed: int, suite: str | None = None
) -> tuple[Policy, Simulation, EvaluationConfig]:
    """This process's policy and simulation, reset to a scene, and what is evaluated.

    Args:
        task: Of the scene.
        seed: Of the scene.
        suite: Name in ``SUITES``; None for that of the configuration.
    """
    config: EvaluationConfig = _worker["config"]
    suite = suite or config.suite
    policy: Policy = _worker["policy"]
    if _worker["sim"] is None:
        _worker["sim"] = Simulation(
            config.robot,
            task,
            seed,
            cameras=policy.spec.cameras,
            image_size=policy.spec.image_size,
            controller_overrides=LOCKSTEP_OVERRIDES,
        )
    sim: Simulation = _worker["sim"]
    sim.reset(task, seed, suite=suite if suite in suites.SUITES else "basic")
    return policy, sim, config


def _episode(job: tuple[str, int]) -> EpisodeResult:
    policy, sim, config = worker(*job)
    return run_episode(
        policy,
        sim,
        time_limit_s=TIME_LIMITS[job[0]],
        observation_filter=FILTERS[config.images],
    )


def _pair(job: tuple[str, int]) -> PairResult | None:
    policy, sim, _ = worker(*job)
    return colour_pair(policy, sim)


# In lockstep no supervisor beats: the watch on its heartbeat is switched off explicitly.
LOCKSTEP_OVERRIDES = {"heartbeat_timeout_s": 0.0, "chunk__accept_joint_positions": True}
