# SPDX-License-Identifier: Apache-2.0
"""Demonstrations without physics, for the first stage of training.

The experts look ahead in a small kinematic picture of tool and object. Rolled forward through a
whole task, that picture gives as many scenes and labels as one likes at the cost of rendering
them, which is what a vision tower that starts from nothing needs most. The second stage trains on
demonstrations that were made with the controller and the full dynamics.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from vla_sim import robots, samples, scene, seeds, suites, tasks
from vla_sim.experts import EXECUTE_STEPS, HORIZON, SKILLS, STEP_DT, WAITING, world_of
from vla_sim.experts.goals import Goals
from vla_sim.experts.world import TOOL_DOWN, World, rotation_matrix

from ..types import Array

_SUBSTEPS = 2
_IDLE_TIME = 0.6  # s without motion after which an episode counts as over
_MAX_TIME = 11.0
# Lowest start of an arm that begins anywhere, m, where it differs: above what stands there.
_LOWEST = {"pick": 0.05, "place": 0.05, "drawer": 0.075}
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
    suite: str = "basic",
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
        suite: Name of the suite that the scenes are drawn for.
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
            suite,
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
        "suite": suite,
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
        "shards": [job[4].name for job in jobs],
    }
    (out_dir / samples.MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return manifest


def _collect_shard(job: tuple[str, str, str, Sequence[int], Path, int, float, float]) -> int:
    task, suite, robot, shard, path, per_episode, first_s, astray = job
    arm = _Arm(robot)
    rows: list[samples.Sample] = []
    for seed in shard:
        instance = suites.get(suite).draw(task, seed, arm.spec)
        rows.extend(_episode(arm, instance, per_episode, first_s, astray))
    samples.write_shard(path, rows)
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

    def scene_qpos(
        self, q: Array, instance: tasks.TaskInstance, world: World, position: Array
    ) -> Array:
        """Joint positions of everything, for rendering.

        Args:
            q: Of the arm, rad.
            instance: What is on the table.
            world: Opening and travel.
            position: Of the object, m.
        """
        qpos = np.array(self.data.qpos)
        qpos[self._qpos] = q
        qpos[self._fingers] = 0.5 * world.opening
        if not instance.absent:
            rotation = rotation_matrix(np.array([0.0, 0.0, world.cube_yaw]))
            if world.held and not world.hinged:
                turn = np.array([0.0, 0.0, world.cube_yaw - world.yaw])
                rotation = world.rotation @ TOOL_DOWN @ rotation_matrix(turn)
                position = position + world.grip * (np.array([0.0, 0.0, 1.0]) - rotation[:, 2])
            quat_wxyz = np.zeros(4)
            mujoco.mju_mat2Quat(quat_wxyz, rotation.ravel())
            scene.write_object(
                self.model,
                qpos,
                instance.target,
                position=position,
                travel=world.travel,
                quat_wxyz=quat_wxyz,
            )
        return qpos

    def objects(self, layout: scene.SceneLayout, qpos: Array) -> scene.ObjectStates:
        """The objects of a scene at rest."""
        return scene.observe_objects(self.model, layout, qpos, np.zeros(self.model.nv))

    def _jacobian(self) -> Array:
        full = np.zeros((6, self.model.nv))
        mujoco.mj_jac(
            self.model, self.data, full[:3], full[3:], self.data.xpos[self._tool], self._tool
        )
        return full[:, self._dof]


def _episode(
    arm: _Arm, instance: tasks.TaskInstance, count: int, first_s: float, astray: float
) -> list[samples.Sample]:
    rng = np.random.default_rng([instance.seed, 2])
    arm.lay(instance)
    goals = WAITING if instance.absent else SKILLS[instance.task].goals
    world = _start(arm, instance, rng, astray)
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
        _sample(arm, instance, goals, history, int(index), number, rng)
        for number, index in enumerate(chosen)
    )
    return [row for row in rows if row is not None]


def _start(
    arm: _Arm, instance: tasks.TaskInstance, rng: np.random.Generator, astray: float
) -> World:
    """The start of an episode: at home, or anywhere it might get to."""
    objects = scene.observe_objects(arm.model, instance.layout, arm.data.qpos, arm.data.qvel)
    pose = arm.forward(np.array(instance.layout.q))
    opening = arm.spec.max_opening
    if rng.random() < astray:
        places = list(objects.positions.values())
        near = places[int(rng.integers(len(places)))][:2] + rng.normal(0.0, 0.05, 2)
        far = rng.uniform([0.33, -0.24], [0.68, 0.24])
        low = _LOWEST.get(instance.task, 0.06)
        height = rng.uniform(low, 0.12) if rng.random() < 0.6 else rng.uniform(0.09, 0.32)
        pose[:3, 3] = [*(near if rng.random() < 0.6 else far), height]
        yaw, tilt = rng.uniform(-0.9, 0.9), rng.normal(0.0, 0.03, 2)
        pose[:3, :3] = rotation_matrix(np.array([*tilt, 0.0])) @ (
            rotation_matrix(np.array([0.0, 0.0, yaw])) @ TOOL_DOWN
        )
        opening = float(rng.choice([arm.spec.max_opening, rng.uniform(0.0, arm.spec.max_opening)]))
    state = tasks.SceneState.of(instance.layout, objects)
    return world_of(state, instance, pose, opening=opening)


def _kick(world: World, rng: np.random.Generator) -> None:
    """Something pushes the tool, or the cube slips out of a raised grip."""
    if world.held and world.position[2] > 0.07 and rng.random() < 0.3:
        world.held = False
        world.opening = 0.06
        place = world.cube[:2] + rng.normal(0.0, 0.015, 2)
        world.cube = np.array([*place, world.rest])
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
    qpos = arm.scene_qpos(q, instance, world, cube)
    positions = arm.objects(instance.layout, qpos).positions
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
    return samples.Sample(
        robot=arm.spec.name,
        task=instance.task,
        suite=instance.suite,
        seed=instance.seed,
        episode=0,
        step=number,
        instruction=instance.instruction,
        target=instance.target,
        reference=instance.reference,
        qpos=qpos,
        q=q,
        dq=dq,
        gripper_opening=opening,
        pose_tool_in_base=pose,
        chunk_poses=poses,
        chunk_gripper=openings,
        **samples.named_positions(instance, positions),
        time=index * STEP_DT,
        disturbed=True,
    )
