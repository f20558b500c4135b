# SPDX-License-Identifier: Apache-2.0
"""Demonstrations of the experts, stored as states and rendered when they are needed.

A sample is the start of a chunk: what the robot measured, everything needed to draw what it saw,
and the chunk its expert would send there. What is executed is not always what is labelled: noise on
executed chunks, cubes that are moved and grips that are lost take the arm to states a policy will
reach by its own errors, while the labels show the way back (noise injection after Laskey et al.,
"DART", 2017). Only episodes that end in success are kept.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import vla_control
from vla_sim import robots, scene, seeds, suites, tasks
from vla_sim.experts import EXECUTE_STEPS, HORIZON, STEP_DT, Expert, make_expert
from vla_sim.samples import (
    FORMAT,
    MANIFEST,
    DemonstrationError,
    Sample,
    iterate,
    load,
    named_positions,
    read_manifest,
    render_samples,
    write_shard,
)
from vla_sim.simulation import Simulation
from vla_sim.typing import FloatArray

__all__ = [
    "CollectSettings",
    "DemonstrationError",
    "Sample",
    "collect",
    "iterate",
    "load",
    "read_manifest",
    "render_samples",
    "run_episode",
]


@dataclass(frozen=True)
class CollectSettings:
    """How demonstrations are made.

    Attributes:
        sample_period: Between the samples of an episode, s.
        latency: From the observation to the chunk's arrival at the controller, s.
        time_limit: An episode that takes longer is dropped, s.
        tail: Recorded after success, s.
        disturbed_share: Share of episodes with disturbances.
        noise_probability: Of noise on an executed chunk in a disturbed episode.
        noise_position: Standard deviation of that noise per axis, m.
        noise_yaw: Standard deviation of that noise, rad.
        kick_probability: Of one large offset in a disturbed episode.
        move_probability: Of moving the named cube in a disturbed episode.
        drop_probability: Of losing the grip in a disturbed episode.
    """

    sample_period: float = 0.1
    latency: float = 0.1
    time_limit: float = 14.0
    tail: float = 0.6
    disturbed_share: float = 0.6
    noise_probability: float = 0.5
    noise_position: float = 0.012
    noise_yaw: float = 0.10
    kick_probability: float = 0.35
    move_probability: float = 0.30
    drop_probability: float = 0.20


def run_episode(
    sim: Simulation, expert: Expert, seed: int, settings: CollectSettings
) -> list[Sample] | None:
    """Run one episode; returns its samples, or None if it failed or a chunk was rejected.

    Args:
        sim: A simulation in lockstep, at the task wanted.
        expert: Its expert.
        seed: Seed of the scene and of the disturbances.
        settings: How demonstrations are made.
    """
    sim.reset(seed=seed)
    rng = np.random.default_rng([seed, 1])
    disturbance = _Disturbance(rng, settings) if rng.random() < settings.disturbed_share else None
    samples: list[Sample] = []
    period = EXECUTE_STEPS * STEP_DT
    ticks_per_chunk = round(period / settings.sample_period)
    ticks_of_latency = round(settings.latency / settings.sample_period)
    pending = None
    end = settings.time_limit
    for tick in range(round(settings.time_limit / settings.sample_period)):
        time = tick * settings.sample_period
        if time >= end - 1e-9:
            return samples
        poses, openings = expert.plan(sim)
        samples.append(_sample(sim, poses, openings, len(samples), disturbance is not None))
        if tick % ticks_per_chunk == 0:
            if disturbance is not None:
                disturbance.touch_scene(sim)
                poses, openings = disturbance.alter(sim, poses, openings)
            pending = expert.chunk(poses, openings, stamp_ns=sim.time_ns)
        if pending is not None and tick % ticks_per_chunk == ticks_of_latency % ticks_per_chunk:
            if sim.push_chunk(pending) != vla_control.RejectReason.NONE:
                return None
            pending = None
        sim.advance(settings.sample_period)
        if end == settings.time_limit and sim.judge().success:
            end = min(end, time + settings.tail)
    return samples if sim.judge().success else None


class _Disturbance:
    """What goes wrong in one episode."""

    def __init__(self, rng: np.random.Generator, settings: CollectSettings) -> None:
        self._rng = rng
        self._settings = settings
        self._kick_at = self._moment(settings.kick_probability)
        self._move_at = self._moment(settings.move_probability)
        self._drop = rng.random() < settings.drop_probability

    def _moment(self, probability: float) -> float:
        moment = float(self._rng.uniform(0.2, 2.2))
        return moment if self._rng.random() < probability else np.inf

    def touch_scene(self, sim: Simulation) -> None:
        """Move the named cube once, if the hand is not about it."""
        state = sim.scene_state()
        target = sim.instance.target
        if target not in scene.COLORS or target not in state.positions:
            return
        cube = state.positions[target]
        away = float(np.linalg.norm(state.tool_position - cube))
        if state.time < self._move_at or away < 0.09 or cube[2] > 0.03:
            return
        self._move_at = np.inf
        for _ in range(20):
            shift = np.array([*self._rng.uniform(-0.06, 0.06, 2), 0.0])
            place = cube + shift
            others = [p for color, p in state.positions.items() if color != target]
            free = all(np.hypot(*(place - other)[:2]) > 0.085 for other in others)
            inside = (
                tasks.base.WORKSPACE_X[0] <= place[0] <= tasks.base.WORKSPACE_X[1]
                and tasks.base.WORKSPACE_Y[0] <= place[1] <= tasks.base.WORKSPACE_Y[1]
            )
            bowl_free = state.bowl is None or np.hypot(*(place[:2] - state.bowl)) > 0.125
            if free and inside and bowl_free:
                sim.displace(target, shift)
                return

    def alter(
        self, sim: Simulation, poses: FloatArray, openings: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return what is executed instead of the planned chunk."""
        rng, settings = self._rng, self._settings
        state = sim.scene_state()
        target = sim.instance.target
        held = state.finger_contacts.get(target) == 2
        if self._drop and held and state.positions[target][2] > 0.07:
            self._drop = False
            return poses, np.full_like(openings, sim.robot.max_opening)
        offset, yaw = np.zeros(3), 0.0
        if state.time >= self._kick_at:
            self._kick_at = np.inf
            offset = np.clip(rng.normal(0.0, [0.04, 0.04, 0.02]), -0.06, 0.06)
            offset[2] = abs(offset[2])
            yaw = float(np.clip(rng.normal(0.0, 0.25), -0.35, 0.35))
        elif rng.random() < settings.noise_probability:
            offset = np.clip(rng.normal(0.0, settings.noise_position, 3), -0.03, 0.03)
            yaw = float(np.clip(rng.normal(0.0, settings.noise_yaw), -0.25, 0.25))
        return displaced(poses, offset, yaw), openings


def displaced(poses: FloatArray, offset: FloatArray, yaw: float) -> FloatArray:
    """Return poses that drift off smoothly by an offset (m) and a yaw (rad) over 0.4 s."""
    altered = poses.copy()
    for step in range(len(poses)):
        s = min(1.0, step / EXECUTE_STEPS)
        share = s * s * s * (10.0 - 15.0 * s + 6.0 * s * s)
        cos, sin = np.cos(share * yaw), np.sin(share * yaw)
        turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        altered[step, :3, :3] = turn @ poses[step, :3, :3]
        altered[step, :3, 3] = poses[step, :3, 3] + share * offset
        # Fingertips stay off the table.
        altered[step, 2, 3] = max(altered[step, 2, 3], min(0.014, poses[step, 2, 3]))
    return altered


def _sample(
    sim: Simulation, poses: FloatArray, openings: FloatArray, step: int, disturbed: bool
) -> Sample:
    state = sim.scene_state()
    joints = sim.joints()
    return Sample(
        robot=sim.robot.name,
        task=sim.task,
        suite=sim.instance.suite,
        seed=sim.seed,
        episode=-1,
        step=step,
        instruction=sim.instruction,
        target=sim.instance.target,
        reference=sim.instance.reference,
        qpos=sim.qpos(),
        q=joints[0],
        dq=joints[1],
        gripper_opening=state.gripper_opening,
        pose_tool_in_base=sim.observe_pose(),
        chunk_poses=poses,
        chunk_gripper=openings,
        **named_positions(sim.instance, state.positions),
        time=state.time,
        disturbed=disturbed,
    )


def _collect_shard(
    robot: str, suite: str, task: str, shard: Sequence[int], path: Path, settings: CollectSettings
) -> dict[str, Any]:
    sim = Simulation(robot, task, shard[0], cameras=(), suite=suite)
    expert = make_expert(sim)
    episodes = {seed: run_episode(sim, expert, seed, settings) for seed in shard}
    sim.close()
    kept = {seed: samples for seed, samples in episodes.items() if samples}
    flat = [sample for samples in kept.values() for sample in samples]
    write_shard(path, flat)
    return {
        "file": path.name,
        "samples": len(flat),
        "seeds": list(kept),
        "failed_seeds": [seed for seed in shard if seed not in kept],
    }


def _worker(arguments: tuple[str, str, str, list[int], Path, CollectSettings]) -> dict[str, Any]:
    return _collect_shard(*arguments)


def collect(
    task: str,
    robot: str,
    seed_list: Iterable[int],
    out_dir: Path | str,
    *,
    suite: str = "basic",
    processes: int = 2,
    shard_size: int = 25,
    settings: CollectSettings | None = None,
) -> dict[str, Any]:
    """Make demonstrations and write them as shards with a manifest.

    Args:
        task: Name of the task.
        robot: Name of the robot.
        seed_list: Seeds of the scenes, from the range of demonstrations.
        out_dir: Folder to write; made if missing.
        suite: Name of the suite that the scenes are drawn for.
        processes: Number of processes; 1 = in this one.
        shard_size: Episodes per file.
        settings: How demonstrations are made.

    Returns:
        The manifest.

    Raises:
        SeedError: A seed is not one of the demonstrations' range.
        DemonstrationError: No episode succeeded.
    """
    wanted = [int(seed) for seed in seed_list]
    valid = seeds.range_of("demonstrations")
    outside = [seed for seed in wanted if seed not in valid]
    if outside:
        raise seeds.SeedError(f"seeds {outside[:5]} are not in the range of demonstrations {valid}")
    chosen = settings or CollectSettings()
    tasks.get(task)
    suites.get(suite)
    robots.get(robot)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    shards = [wanted[i : i + shard_size] for i in range(0, len(wanted), shard_size)]
    jobs = [
        (robot, suite, task, shard, folder / f"shard_{index:04d}.npz", chosen)
        for index, shard in enumerate(shards)
    ]
    if processes > 1:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            reports = pool.map(_worker, jobs, chunksize=1)
    else:
        reports = [_worker(job) for job in jobs]
    kept = [seed for report in reports for seed in report["seeds"]]
    if not kept:
        raise DemonstrationError(f"no episode of {task!r} with {robot!r} succeeded")
    manifest = {
        "format": FORMAT,
        "robot": robot,
        "task": task,
        "suite": suite,
        "purpose": "demonstrations",
        "settings": asdict(chosen),
        "horizon": HORIZON,
        "step_dt": STEP_DT,
        "execute_steps": EXECUTE_STEPS,
        "episodes": len(kept),
        "samples": sum(report["samples"] for report in reports),
        "expert_success_rate": len(kept) / len(wanted),
        "seeds": kept,
        "failed_seeds": [seed for report in reports for seed in report["failed_seeds"]],
        "shards": [report["file"] for report in reports],
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return manifest
