# SPDX-License-Identifier: Apache-2.0
"""Samples of demonstrations: read from disk as states, rendered when they are needed.

Neither the controller nor the loop is needed here, so training imports nothing of them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_sim import robots, scene, suites
from vla_sim.rendering import Renderer
from vla_sim.tasks import TaskInstance, relation
from vla_sim.typing import FloatArray, ImageArray

FORMAT = 2
MANIFEST = "manifest.json"


class DemonstrationError(ValueError):
    """Demonstrations are missing or not what they should be."""


@dataclass(frozen=True)
class Sample:
    """The start of a chunk.

    Attributes:
        robot: Name of the robot.
        task: Name of the task.
        suite: Name of the suite that the scene was drawn for.
        seed: Seed of the scene; with suite and task it gives layout and look.
        episode: Number of the episode in its data set.
        step: Number of the sample in its episode.
        instruction: What the robot was told.
        target: Name of the object to do something to.
        reference: What else the instruction names; empty = nothing.
        qpos: Joint positions of everything in the scene, for rendering.
        q: Arm joints, rad.
        dq: Arm joints, rad/s.
        gripper_opening: Distance between the pads, m.
        pose_tool_in_base: Measured, shape (4, 4).
        chunk_poses: Commanded poses from now on, every 50 ms, shape (16, 4, 4).
        chunk_gripper: Commanded openings, shape (16,), m.
        target_position: Of that object, see ``scene.ObjectStates``, m; NaN = not there.
        reference_position: Of the other cube that is named, or of bowl or zone, m; NaN = none.
        color_positions: Per colour, of the cube or button that shows it, shape (4, 3), m; NaN = not
            there.
        time: Since the start of the episode, s.
        disturbed: Whether the episode was disturbed.
    """

    robot: str
    task: str
    suite: str
    seed: int
    episode: int
    step: int
    instruction: str
    target: str
    reference: str
    qpos: FloatArray
    q: FloatArray
    dq: FloatArray
    gripper_opening: float
    pose_tool_in_base: FloatArray
    chunk_poses: FloatArray
    chunk_gripper: FloatArray
    target_position: FloatArray
    reference_position: FloatArray
    color_positions: FloatArray
    time: float
    disturbed: bool


ARRAYS = (
    "qpos",
    "q",
    "dq",
    "gripper_opening",
    "pose_tool_in_base",
    "chunk_poses",
    "chunk_gripper",
    "target_position",
    "reference_position",
    "color_positions",
    "time",
)


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """Return the manifest of a data set.

    Raises:
        DemonstrationError: There is none, or it is of another format.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise DemonstrationError(f"no demonstrations in {folder}: {MANIFEST} is missing")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("format") != FORMAT:
        raise DemonstrationError(f"{path} has format {manifest.get('format')!r}, not {FORMAT}")
    return manifest


def load(folder: Path | str, stride: int = 1) -> list[Sample]:
    """Load the samples of a data set, every ``stride``-th of each episode.

    Raises:
        DemonstrationError: The manifest or a shard it names is missing.
    """
    return list(iterate(folder, stride))


def iterate(folder: Path | str, stride: int = 1) -> Iterator[Sample]:
    """Like :func:`load`, one sample at a time."""
    manifest = read_manifest(folder)
    numbers = {seed: number for number, seed in enumerate(manifest["seeds"])}
    for name in manifest["shards"]:
        path = Path(folder) / name
        if not path.is_file():
            raise DemonstrationError(f"the shard {path} is missing")
        with np.load(path, allow_pickle=False) as shard:
            arrays = {key: shard[key] for key in shard.files}
        for index in range(len(arrays["seed"])):
            if int(arrays["step"][index]) % stride:
                continue
            row = {key: values[index] for key, values in arrays.items()}
            yield Sample(
                robot=manifest["robot"],
                task=manifest["task"],
                suite=manifest["suite"],
                seed=int(row["seed"]),
                episode=numbers[int(row["seed"])],
                step=int(row["step"]),
                instruction=str(row["instruction"]),
                target=str(row["target"]),
                reference=str(row["reference"]),
                gripper_opening=float(row["gripper_opening"]),
                time=float(row["time"]),
                disturbed=bool(row["disturbed"]),
                **{
                    key: np.asarray(row[key], dtype=np.float64)
                    for key in ARRAYS
                    if key not in ("gripper_opening", "time")
                },
            )


def scene_of(sample: Sample) -> tuple[str, str, str, int]:
    """Return what gives a sample's scene: robot, suite, task and seed."""
    return sample.robot, sample.suite, sample.task, sample.seed


def layout_of(sample: Sample) -> scene.SceneLayout:
    """Return what was on the table at the start of a sample's episode, and how it looked."""
    robot = robots.get(sample.robot)
    return suites.get(sample.suite).draw(sample.task, sample.seed, robot).layout


def named_positions(instance: TaskInstance, positions: dict[str, FloatArray]) -> dict[str, Any]:
    """Return the positions that a sample holds, from those of all objects, m."""
    nowhere = np.full(3, np.nan)
    prop = instance.layout.prop("bowl") or instance.layout.prop("zone")
    reference = nowhere if prop is None else np.array([*prop.place, 0.0])
    colored = [positions.get(c, positions.get(f"{c} button", nowhere)) for c in scene.COLORS]
    return {
        "target_position": positions.get(instance.target, nowhere),
        "reference_position": positions.get(instance.reference, reference),
        "color_positions": np.array(colored),
    }


def goal_position(sample: Sample) -> FloatArray:
    """Return where the named object goes: on the named side of the bowl, or to what is named.

    Shape (3,), m; NaN where the task names no place.
    """
    if sample.task != relation.Relation.name:
        return sample.reference_position
    x, y, z = sample.reference_position
    return np.array([*relation.beside((x, y), sample.reference), z])


def write_shard(path: Path, rows: Sequence[Sample]) -> None:
    """Write samples as one file of a data set; it appears under its name when it is whole."""
    arrays: dict[str, Any] = {
        name: np.array([getattr(row, name) for row in rows], dtype=np.float32) for name in ARRAYS
    }
    arrays["seed"] = np.array([row.seed for row in rows], dtype=np.int64)
    arrays["step"] = np.array([row.step for row in rows], dtype=np.int32)
    arrays["disturbed"] = np.array([row.disturbed for row in rows], dtype=np.bool_)
    for name in ("instruction", "target", "reference"):
        arrays[name] = np.array([getattr(row, name) for row in rows])
    temporary = path.with_suffix(".part.npz")
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, path)


_worker_scenes: dict[tuple[str, int], tuple[Any, Renderer]] = {}


def _render_group(job: tuple[list[Sample], tuple[str, ...], int]) -> ImageArray:
    """Render samples of one episode; scenes are kept for the life of the process."""
    samples, cameras, size = job
    first = samples[0]
    robot = robots.get(first.robot)
    key = (first.robot, size)
    if key not in _worker_scenes:
        model = scene.build_model(robot)
        _worker_scenes[key] = model, Renderer(model, size, size)
    model, renderer = _worker_scenes[key]
    layout = layout_of(first)
    scene.set_look(model, layout.look)
    props = scene.prop_poses(model, layout)
    images = np.zeros((len(samples), len(cameras), size, size, 3), dtype=np.uint8)
    for index, sample in enumerate(samples):
        for camera_index, camera in enumerate(cameras):
            images[index, camera_index] = renderer.render(camera, sample.qpos, props)
    return images


def render_samples(
    samples: Sequence[Sample],
    *,
    cameras: tuple[str, ...] = scene.CAMERAS,
    image_size: int = 96,
    processes: int = 2,
    pool: Any = None,
) -> ImageArray:
    """Render what the robot saw at each sample.

    Args:
        samples: Samples; neighbours of the same episode are rendered together.
        cameras: Cameras to render.
        image_size: Side of the images, px.
        processes: Number of processes; 1 = in this one.
        pool: A ``multiprocessing`` pool to use instead of a new one (context "spawn").

    Returns:
        Shape (N, cameras, image_size, image_size, 3), RGB.
    """
    groups: list[list[Sample]] = []
    for sample in samples:
        last = groups[-1][-1] if groups else None
        same = last is not None and scene_of(last) == scene_of(sample)
        if same:
            groups[-1].append(sample)
        else:
            groups.append([sample])
    jobs = [(group, cameras, image_size) for group in groups]
    if not jobs:
        return np.zeros((0, len(cameras), image_size, image_size, 3), dtype=np.uint8)
    if pool is not None:
        return np.concatenate(pool.map(_render_group, jobs, chunksize=4))
    if processes > 1:
        with multiprocessing.get_context("spawn").Pool(processes) as own:
            return np.concatenate(own.map(_render_group, jobs, chunksize=4))
    return np.concatenate([_render_group(job) for job in jobs])
