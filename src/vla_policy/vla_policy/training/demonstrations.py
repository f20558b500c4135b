# SPDX-License-Identifier: Apache-2.0
"""Demonstrations of ``vla_sim`` as training data: states on disk, images rendered once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vla_sim import robots, samples, scene, tasks

from ..actions.spec import NANO_PI0_ACTION
from ..nano_pi0 import NanoPi0Config
from ..poses import invert_pose
from ..state_encoding import encode_states
from ..statistics import Statistics
from ..tokenizer import InstructionTokenizer
from ..types import Array
from .dataset import ImageStore, TrainingData
from .pointers import patch_indices

# One episode in this many is held out for validation.
VALIDATION_EVERY = 32
# What is regressed beside the flow: the named object in two frames, what else is named or stands
# for it (bowl, zone, the other cube), where the object goes, and the cube or button of every
# colour, so that seeing is learnt from all of these and only choosing from the words.
POSITION_NAMES = (
    "object_in_tool",
    "object_in_base",
    "prop_in_tool",
    "prop_in_base",
    "goal_in_tool",
    "goal_in_base",
    *(f"{color}_in_tool" for color in scene.COLORS),
)
POSITION_SCALE = 0.1  # m per unit of an auxiliary target
_RENDER_BLOCK = 1024


@dataclass(frozen=True)
class DemonstrationSet:
    """Demonstrations of several tasks for one robot.

    Attributes:
        data: The samples.
        tokenizer: With the words of all their instructions.
        robot: Name of the robot.
        joint_names: Its joints.
        horizon: Steps in a chunk.
        step_dt: s.
        execute_steps: Steps executed between inferences.
        cameras: Camera names.
        image_size: Pixels.
        manifest: Seeds and settings of every task's demonstrations.
    """

    data: TrainingData
    tokenizer: InstructionTokenizer
    robot: str
    joint_names: tuple[str, ...]
    horizon: int
    step_dt: float
    execute_steps: int
    cameras: tuple[str, ...]
    image_size: int
    manifest: dict[str, Any]


def all_instructions() -> list[str]:
    """Every instruction that the tasks of ``vla_sim`` can give."""
    return [
        text
        for task in tasks.TASKS.values()
        for order in task.orders()
        for text in task.instructions(*order)
    ]


def load_demonstrations(
    folders: Sequence[Path],
    cache_dir: Path,
    *,
    rate: float = 5.0,
    image_size: int = 96,
    cameras: tuple[str, ...] = ("scene", "wrist"),
    text_tokens: int = 16,
    processes: int = 2,
    tokenizer: InstructionTokenizer | None = None,
    statistics: Statistics | None = None,
    report: Callable[[str, int, int], None] | None = None,
) -> DemonstrationSet:
    """Reads demonstrations and renders what is not in the cache yet.

    Args:
        folders: One data set per task, all of one robot.
        cache_dir: Where rendered images are kept.
        rate: Chunk starts per second of an episode that are used, where there are more.
        image_size: Pixels.
        cameras: Camera names.
        text_tokens: Ids per instruction.
        processes: For rendering.
        tokenizer: Of a policy that goes on learning; None makes one.
        statistics: Likewise; None takes those of the training split.
        report: Called with a folder's name, the images rendered and their total.

    Raises:
        ValueError: If the data sets do not fit together.
    """
    manifests = [samples.read_manifest(folder) for folder in folders]
    robot_names = {manifest["robot"] for manifest in manifests}
    settings = {(m["horizon"], m["step_dt"], m["execute_steps"]) for m in manifests}
    if len(robot_names) != 1 or len(settings) != 1:
        raise ValueError(
            f"data sets must share robot and chunk; found {robot_names} and {settings} in {folders}"
        )
    robot = robot_names.pop()
    horizon, step_dt, execute_steps = settings.pop()
    rows: list[samples.Sample] = []
    stores = []
    for folder, manifest in zip(folders, manifests, strict=True):
        period = manifest["settings"].get("sample_period", 1.0 / rate)
        stride = max(1, round(1.0 / (rate * period)))
        part = samples.load(folder, stride)
        rows.extend(part)
        path = cache_dir / f"images_{_cache_key(folder, stride, image_size, cameras)}.npy"
        stores.append(_render(part, path, image_size, cameras, processes, report, folder.name))
    joint_names = tuple(robots.get(robot).joint_names)
    if tokenizer is None:
        tokenizer = InstructionTokenizer.build(all_instructions(), text_tokens)
    data = _training_data(
        rows, ImageStore(stores), tokenizer, statistics, len(joint_names), cameras, image_size
    )
    return DemonstrationSet(
        data=data,
        tokenizer=tokenizer,
        robot=robot,
        joint_names=joint_names,
        horizon=int(horizon),
        step_dt=float(step_dt),
        execute_steps=int(execute_steps),
        cameras=cameras,
        image_size=image_size,
        manifest={
            "purpose": "demonstrations",
            "robot": robot,
            "demonstrations": [
                {
                    name: manifest[name]
                    for name in ("task", "suite", "episodes", "seeds", "failed_seeds", "settings")
                }
                for manifest in manifests
            ],
            "validation_seeds": sorted(
                {row.seed for row in rows if row.seed % VALIDATION_EVERY == 0}
            ),
        },
    )


def _cache_key(folder: Path, stride: int, image_size: int, cameras: tuple[str, ...]) -> str:
    text = (folder / samples.MANIFEST).read_text(encoding="utf-8")
    content = json.dumps([text, stride, image_size, cameras])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _render(
    rows: Sequence[samples.Sample],
    path: Path,
    image_size: int,
    cameras: tuple[str, ...],
    processes: int,
    report: Callable[[str, int, int], None] | None,
    name: str,
) -> npt.NDArray[np.uint8]:
    """Memory-mapped images of some samples; continues a file that is half done."""
    import multiprocessing

    path.parent.mkdir(parents=True, exist_ok=True)
    progress = path.with_suffix(".json")
    shape = (len(rows), len(cameras), image_size, image_size, 3)
    done = 0
    if path.is_file() and progress.is_file():
        done = int(json.loads(progress.read_text(encoding="utf-8"))["rendered"])
    if done < len(rows):
        mode: Any = "r+" if done else "w+"
        images = np.lib.format.open_memmap(path, mode=mode, dtype=np.uint8, shape=shape)
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            for begin in range(done, len(rows), _RENDER_BLOCK):
                block = rows[begin : begin + _RENDER_BLOCK]
                images[begin : begin + len(block)] = samples.render_samples(
                    block, cameras=cameras, image_size=image_size, pool=pool
                )
                images.flush()
                progress.write_text(json.dumps({"rendered": begin + len(block)}), encoding="utf-8")
                if report is not None:
                    report(name, begin + len(block), len(rows))
        del images
    result: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return result


def _training_data(
    rows: Sequence[samples.Sample],
    images: ImageStore,
    tokenizer: InstructionTokenizer,
    statistics: Statistics | None,
    joints: int,
    cameras: tuple[str, ...],
    image_size: int,
) -> TrainingData:
    pose = np.stack([row.pose_tool_in_base for row in rows])
    state = encode_states(
        np.stack([row.q for row in rows]),
        np.stack([row.dq for row in rows]),
        np.array([row.gripper_opening for row in rows]),
        pose,
    )
    actions = NANO_PI0_ACTION.encode(
        pose,
        np.stack([row.chunk_poses for row in rows]),
        np.stack([row.chunk_gripper for row in rows]),
    )
    held_out = np.array([row.seed % VALIDATION_EVERY == 0 for row in rows])
    train, validation = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    if statistics is None:
        statistics = Statistics.of(state[train], actions[train])
    positions = _positions(rows, pose) / POSITION_SCALE
    known = np.isfinite(positions)
    table: dict[str, int] = {}
    choices = np.array(
        [[table.setdefault(text, len(table)) for text in _paraphrases(row)] for row in rows]
    )
    encoded = [tokenizer.encode(text) for text in table]
    is_velocity = np.zeros(state.shape[1], dtype=np.bool_)
    is_velocity[joints : 2 * joints] = True
    return TrainingData(
        images=images,
        state=torch.from_numpy(statistics.normalise_state(state).astype(np.float32)),
        is_velocity=torch.from_numpy(is_velocity),
        actions=torch.from_numpy(statistics.normalise_actions(actions).astype(np.float32)),
        actions_valid=torch.ones(actions.shape[:2]),
        token_table=torch.from_numpy(np.stack([ids for ids, _ in encoded])),
        token_valid=torch.from_numpy(np.stack([valid for _, valid in encoded])),
        choices=torch.from_numpy(choices),
        positions=torch.from_numpy(np.where(known, positions, 0.0).astype(np.float32)),
        positions_valid=torch.from_numpy(known.astype(np.float32)),
        patches=torch.from_numpy(
            patch_indices(rows, cameras, image_size, NanoPi0Config.patch_size)
        ),
        position_names=POSITION_NAMES,
        position_scale=POSITION_SCALE,
        statistics=statistics,
        train=train,
        validation=validation,
    )


def _paraphrases(row: samples.Sample) -> list[str]:
    """The recorded instruction first, then the others that mean the same."""
    wordings = tasks.get(row.task).instructions(row.target, row.reference)
    return [row.instruction, *(text for text in wordings if text != row.instruction)]


def _positions(rows: Sequence[samples.Sample], pose: Array) -> Array:
    """Auxiliary targets (N, 3·len(POSITION_NAMES)) in m; NaN where a scene lacks the object."""
    named = np.stack([row.target_position for row in rows])
    reference = np.stack([row.reference_position for row in rows])
    goal = np.stack([samples.goal_position(row) for row in rows])
    by_color = np.stack([row.color_positions for row in rows])
    inverse = invert_pose(pose)

    def in_tool(points: Array) -> Array:
        rotated: Array = np.einsum("nij,nj->ni", inverse[:, :3, :3], points)
        return rotated + inverse[:, :3, 3]

    centre = np.array([0.5, 0.0, 0.0])
    colored = [in_tool(by_color[:, index]) for index in range(len(scene.COLORS))]
    named_ones = [
        part for points in (named, reference, goal) for part in (in_tool(points), points - centre)
    ]
    return np.concatenate([*named_ones, *colored], axis=1)
