# SPDX-License-Identifier: Apache-2.0
"""Demonstrations without physics, for the first stage of training.

The experts look ahead in a small kinematic picture of tool and cube. Rolled forward through a
whole task, that picture gives as many scenes and labels as one likes at the cost of rendering
them, which is what a vision tower that starts from nothing needs most. The second stage trains on
demonstrations that were made with the controller and the full dynamics.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from vla_sim import robots, samples, scene, seeds, tasks
from vla_sim.experts import EXECUTE_STEPS, HORIZON, STEP_DT
from vla_sim.experts.goals import Goals, PickGoals, PlaceGoals, PushGoals, TouchGoals
from vla_sim.experts.world import TOOL_DOWN, World, rotation_matrix

from .types import Array

_GOALS: dict[str, type[Goals]] = {
    "touch": TouchGoals,
    "push": PushGoals,
    "pick": PickGoals,
    "place": PlaceGoals,
}
_NOWHERE = np.array([9.0, 9.0])
_SUBSTEPS = 2
_IDLE_TIME = 0.6  # s without motion after which an episode counts as over
_MAX_TIME = 11.0
# The arm follows its reference by this much time, s: from a perfect to a lagging controller.
_LAG = (0.0, 0.05)
# A sample is kept where inverse kinematics comes this near, m and rad; its labels are relative to
# the pose that the joints do take.
_NEAR_ENOUGH = 5e-3


def collect_kinematic(
    task: str,
    robot: str,
    seed_list: Iterable[int],
    out_dir: Path,
    *,
    samples_per_episode: int = 6,
    first_s: float = _MAX_TIME,
    astray: float = 0.6,
    processes: int = 2,
    shard_size: int = 100,
) -> dict[str, Any]:
    """Makes kinematic demonstrations in the format of ``vla_sim.samples``.

    Args:
        task: Name of the task.
        robot: Name of the robot.
        seed_list: Seeds of the scenes, from the range of demonstrations.
        out_dir: Folder to write.
        samples_per_episode: Instants kept of every episode.
        first_s: They are drawn from this beginning of it, s. Where to go is decided there: later
            the arm itself gives the target away.
        astray: Share of episodes that begin anywhere, e.g. low over another cube, so that where
            the arm is does not tell where it should go.
        processes: Number of processes.
        shard_size: Episodes per file.

    Returns:
        The manifest.

    Raises:
        SeedError: If a seed is not in the range of demonstrations.
    """
    wanted = [int(seed) for seed in seed_list]
    valid = seeds.range_of("demonstrations")
    outside = [seed for seed in wanted if seed not in valid]
    if outside:
        raise seeds.SeedError(f"seeds {outside[:5]} are not in the range of demonstrations {valid}")
    out_dir.mkdir(parents=True, exist_ok=True)
    shards = [wanted[i : i + shard_size] for i in range(0, len(wanted), shard_size)]
    jobs = [
        (
            task,
            robot,
            shard,
            out_dir / f"shard_{index:04d}.npz",
            samples_per_episode,
            first_s,
            astray,
        )
        for index, shard in enumerate(shards)
    ]
    if processes > 1:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            counts = pool.map(_collect_shard, jobs, chunksize=1)
    else:
        counts = [_collect_shard(job) for job in jobs]
    manifest = {
        "format": samples.FORMAT,
        "robot": robot,
        "task": task,
        "purpose": "demonstrations",
        "settings": {
            "kinematic": True,
            "samples_per_episode": samples_per_episode,
            "first_s": first_s,
            "astray": astray,
        },
        "horizon": HORIZON,
        "step_dt": STEP_DT,
        "execute_steps": EXECUTE_STEPS,
        "episodes": len(wanted),
        "samples": sum(counts),
        "expert_success_rate": 1.0,
        "seeds": wanted,
        "failed_seeds": [],
        "shards": [job[3].name for job in jobs],
    }
    (out_dir / samples.MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return manifest


def _collect_shard(job: tuple[str, str, Sequence[int], Path, int, float, float]) -> int:
    task, robot, shard, path, per_episode, first_s, astray = job
    arm = _Arm(robot)
    rows = [
        row for seed in shard for row in _episode(arm, task, seed, per_episode, first_s, astray)
    ]
    arrays: dict[str, Any] = {
        name: np.array([getattr(row, name) for row in rows], dtype=np.float32)
        for name in samples.ARRAYS
    }
    arrays["seed"] = np.array([row.seed for row in rows], dtype=np.int64)
    arrays["step"] = np.array([row.step for row in rows], dtype=np.int32)
    arrays["disturbed"] = np.array([row.disturbed for row in rows], dtype=np.bool_)
    for name in ("instruction", "target"):
        arrays[name] = np.array([getattr(row, name) for row in rows])
    temporary = path.with_suffix(".part.npz")
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, path)
    return len(rows)


class _Arm:
    """Kinematics of one robot in its scene."""

    def __init__(self, name: str) -> None:
        self.spec = robots.get(name)
        self.model = scene.build_model(self.spec)
        self.data = mujoco.MjData(self.model)
        self._qpos = [int(self.model.joint(n).qposadr[0]) for n in self.spec.joint_names]
        self._dof = [int(self.model.joint(n).dofadr[0]) for n in self.spec.joint_names]
        self._fingers = [int(self.model.joint(n).qposadr[0]) for n in self.spec.finger_joint_names]
        self._tool = int(self.model.body(self.spec.tool_frame).id)
        self._q = self.spec.home_q.copy()

    def lay(self, instance: tasks.TaskInstance) -> None:
        """Lays a scene; inverse kinematics start from its posture."""
        scene.lay(self.model, self.data, self.spec, instance.layout)
        self._q = np.array(instance.layout.q, dtype=np.float64)

    def forward(self, q: Array) -> Array:
        """Pose of the tool in the base frame (4, 4)."""
        self.data.qpos[self._qpos] = q
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        pose = np.eye(4)
        pose[:3, :3] = self.data.xmat[self._tool].reshape(3, 3)
        pose[:3, 3] = self.data.xpos[self._tool]
        return pose

    def inverse(self, position: Array, rotation: Array) -> Array | None:
        """Joint positions for a tool pose, near the last ones and drawn to the home posture.

        None where the iteration does not arrive.
        """
        q = self._q.copy()
        for _ in range(60):
            pose = self.forward(q)
            jacobian = self._jacobian()
            turn = rotation @ pose[:3, :3].T
            skew = 0.5 * np.array(
                [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
            )
            error = np.concatenate([position - pose[:3, 3], skew])
            if np.abs(error).max() < 2e-4:
                break
            inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + 1e-4 * np.eye(6))
            home = 0.2 * (self.spec.home_q - q)
            step = inverse @ np.clip(error, -0.1, 0.1)
            q = q + step + home - inverse @ (jacobian @ home)
        if np.abs(error).max() > _NEAR_ENOUGH:
            return None
        self._q = q
        return q

    def velocity(self, q: Array, twist: Array) -> Array:
        """Least joint velocities for a tool twist."""
        self.forward(q)
        jacobian = self._jacobian()
        return jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), twist)

    def scene_qpos(self, q: Array, opening: float, color: str, cube: Array) -> Array:
        """Joint positions of everything, for rendering."""
        qpos = np.array(self.data.qpos)
        qpos[self._qpos] = q
        qpos[self._fingers] = 0.5 * opening
        address = int(self.model.joint(f"cube_{color}").qposadr[0])
        qpos[address : address + 3] = cube
        return qpos

    def _jacobian(self) -> Array:
        full = np.zeros((6, self.model.nv))
        mujoco.mj_jac(
            self.model, self.data, full[:3], full[3:], self.data.xpos[self._tool], self._tool
        )
        return full[:, self._dof]


def _episode(
    arm: _Arm, task: str, seed: int, count: int, first_s: float, astray: float
) -> list[samples.Sample]:
    instance = tasks.get(task).draw(seed, arm.spec)
    rng = np.random.default_rng([seed, 2])
    arm.lay(instance)
    goals = _GOALS[task]()
    world = _start(arm, instance, rng, astray)
    named = world.cube_yaw
    history: list[World] = []
    still = 0.0
    kicks = sorted(rng.uniform(0.2, 5.0, rng.integers(0, 3)))
    while len(history) * STEP_DT < first_s and still < _IDLE_TIME:
        history.append(_copy(world))
        opening = world.opening
        for _ in range(_SUBSTEPS):
            world.step(goals.goal(world), STEP_DT / _SUBSTEPS)
        moving = np.linalg.norm(world.velocity) > 0.008 or abs(world.opening - opening) > 1e-4
        still = 0.0 if moving else still + STEP_DT
        if kicks and len(history) * STEP_DT > kicks[0]:
            kicks.pop(0)
            _kick(world, rng)
    chosen = np.sort(rng.permutation(len(history))[:count])
    rows = (
        _sample(arm, instance, goals, history, int(index), number, named, rng)
        for number, index in enumerate(chosen)
    )
    return [row for row in rows if row is not None]


def _start(
    arm: _Arm, instance: tasks.TaskInstance, rng: np.random.Generator, astray: float
) -> World:
    """The start of an episode: at home, or anywhere it might get to."""
    layout = instance.layout
    target = next(cube for cube in layout.cubes if cube.color == instance.target)
    pose = arm.forward(np.array(layout.q))
    position, rotation = pose[:3, 3].copy(), pose[:3, :3].copy()
    opening = arm.spec.max_opening
    cube = np.array([target.x, target.y, 0.5 * scene.CUBE_SIZE])
    if rng.random() < astray:
        about = layout.cubes[int(rng.integers(len(layout.cubes)))]
        near = np.array([about.x, about.y]) + rng.normal(0.0, 0.05, 2)
        far = rng.uniform([0.33, -0.24], [0.68, 0.24])
        low = 0.05 if instance.task in ("pick", "place") else 0.06
        height = rng.uniform(low, 0.12) if rng.random() < 0.6 else rng.uniform(0.09, 0.32)
        position = np.array([*(near if rng.random() < 0.6 else far), height])
        yaw, tilt = rng.uniform(-0.9, 0.9), rng.normal(0.0, 0.03, 2)
        rotation = rotation_matrix(np.array([*tilt, 0.0])) @ (
            rotation_matrix(np.array([0.0, 0.0, yaw])) @ TOOL_DOWN
        )
        opening = float(rng.choice([arm.spec.max_opening, rng.uniform(0.0, arm.spec.max_opening)]))
    return World(
        position=position,
        rotation=rotation,
        velocity=np.zeros(3),
        angular_velocity=np.zeros(3),
        opening=opening,
        cube=cube,
        cube_yaw=target.yaw,
        held=False,
        squeezed=0.0,
        bowl=_NOWHERE if layout.bowl is None else np.array(layout.bowl),
        zone=_NOWHERE if layout.zone is None else np.array(layout.zone),
    )


def _kick(world: World, rng: np.random.Generator) -> None:
    """Something pushes the tool, or the cube slips out of a raised grip."""
    if world.held and world.position[2] > 0.07 and rng.random() < 0.3:
        world.held = False
        world.opening = 0.06
        place = world.cube[:2] + rng.normal(0.0, 0.015, 2)
        world.cube = np.array([*place, 0.5 * scene.CUBE_SIZE])
        return
    before = world.position.copy()
    offset = rng.normal(0.0, [0.025, 0.025, 0.012])
    world.position = world.position + offset
    world.position[2] = max(world.position[2], min(before[2], 0.016))
    turn = rotation_matrix(np.array([0.0, 0.0, rng.normal(0.0, 0.2)]))
    world.rotation = turn @ world.rotation
    if world.held:
        world.cube = world.cube + world.position - before


def _copy(world: World) -> World:
    return replace(
        world,
        position=world.position.copy(),
        rotation=world.rotation.copy(),
        velocity=world.velocity.copy(),
        angular_velocity=world.angular_velocity.copy(),
        cube=world.cube.copy(),
    )


def _sample(
    arm: _Arm,
    instance: tasks.TaskInstance,
    goals: Goals,
    history: list[World],
    index: int,
    number: int,
    cube_yaw: float,
    rng: np.random.Generator,
) -> samples.Sample | None:
    """The sample at one instant, or None where the arm cannot take the tool's pose."""
    world = _copy(history[index])
    lag = rng.uniform(*_LAG)
    position = world.position - lag * world.velocity + rng.normal(0.0, 0.001, 3)
    rotation = rotation_matrix(-lag * world.angular_velocity) @ world.rotation
    cube = world.cube - (lag * world.velocity if world.held else 0.0)
    q = arm.inverse(position, rotation)
    if q is None:
        return None
    pose = arm.forward(q)
    dq = arm.velocity(q, np.concatenate([world.velocity, world.angular_velocity]))
    qpos = arm.scene_qpos(q, world.opening, instance.target, cube)
    others = [c for c in instance.layout.cubes if c.color != instance.target]
    positions = np.full((len(scene.COLORS), 3), np.nan)
    positions[0] = cube
    for row, other in enumerate(others, start=1):
        positions[row] = [other.x, other.y, 0.5 * scene.CUBE_SIZE]
    poses = np.tile(np.eye(4), (HORIZON, 1, 1))
    openings = np.zeros(HORIZON)
    opening = world.opening
    world.squeezed = 0.0
    for step in range(HORIZON):
        poses[step, :3, :3] = world.rotation
        poses[step, :3, 3] = world.position
        openings[step] = goals.goal(world).opening
        for _ in range(_SUBSTEPS):
            world.step(goals.goal(world), STEP_DT / _SUBSTEPS)
    prop = instance.layout.bowl or instance.layout.zone or (np.nan, np.nan)
    return samples.Sample(
        robot=arm.spec.name,
        task=instance.task,
        seed=instance.seed,
        episode=0,
        step=number,
        instruction=instance.instruction,
        target=instance.target,
        qpos=qpos,
        q=q,
        dq=dq,
        gripper_opening=opening,
        pose_tool_in_base=pose,
        chunk_poses=poses,
        chunk_gripper=openings,
        object_positions=positions,
        prop_position=np.array(prop),
        time=index * STEP_DT,
        disturbed=True,
    )
