# SPDX-License-Identifier: Apache-2.0
"""Recorded episodes, converted by ``vla convert``, as training data.

Step i of a chunk is the reference that was in force ``i * step_dt`` after the observation, whoever
commanded it. Steps beyond the end of the episode, steps that nobody commanded and, where
corrections alone are learnt, steps of anybody but the operator do not count in the loss.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vla_data.lerobot.dataset import Dataset, DatasetError, Episode
from vla_sim import robots

from ..actions.rotations import decode_rotations
from ..actions.spec import NANO_PI0_ACTION
from ..poses import make_pose
from ..state_encoding import encode_states
from ..statistics import Statistics
from ..tokenizer import InstructionTokenizer
from ..types import Array
from .dataset import ImageStore, TrainingData
from .demonstrations import (
    POSITION_NAMES,
    POSITION_SCALE,
    VALIDATION_EVERY,
    DemonstrationSet,
)
from .pointers import CLASSES, HIDDEN

# Which rows are learnt from: every row of successful episodes and all corrections, but not what the
# policy did before somebody had to take over (Liu et al., 2023, "Sirius"); the same with
# corrections repeated until they weigh as much as all the rest; corrections alone. The second is
# the weighting of Mandlekar et al. (2020), the third the relabelling of HG-DAgger (Kelly et al.,
# 2019).
MODES = ("all", "weighted", "only")


@dataclass(frozen=True)
class ChunkSettings:
    """What chunks a policy is to learn.

    Attributes:
        horizon: Steps in a chunk.
        step_dt: s.
        execute_steps: Steps executed between inferences.
        cameras: Camera names, in the policy's order.
        image_size: Pixels.
    """

    horizon: int = 16
    step_dt: float = 0.05
    execute_steps: int = 8
    cameras: tuple[str, ...] = ("scene", "wrist")
    image_size: int = 96


@dataclass(frozen=True)
class Samples:
    """Starts of chunks in one episode; N of them.

    Attributes:
        rows: (N,) rows of the episode.
        actions: (N, H, 8) references, see `vla_data.rows.ACTION_NAMES`.
        valid: (N, H) whether a step counts.
    """

    rows: npt.NDArray[np.int64]
    actions: Array
    valid: npt.NDArray[np.bool_]


def instructions_of(folders: Sequence[Path]) -> list[str]:
    """Every instruction in some datasets.

    Raises:
        DatasetError: If one cannot be read.
    """
    return sorted({text for folder in folders for text in Dataset(folder).instructions})


def chunk_samples(
    episode: Episode, rate: int, settings: ChunkSettings, mode: str, stride: int = 1
) -> Samples:
    """Finds where chunks start in an episode, and what they hold.

    Args:
        episode: Of the dataset.
        rate: Rows per second.
        settings: Of the chunks.
        mode: One of `MODES`.
        stride: Every so many rows that qualify.

    Returns:
        The samples; a sample has at least one step that counts.
    """
    last = len(episode.action) - 1
    commanded = episode.source > 0
    # What led to somebody's taking over is nothing to learn, though the episode ended well.
    corrected_later = np.cumsum(episode.intervention[::-1])[::-1] > 0
    succeeded = (episode.about["outcome"] == "success") & ~corrected_later
    chosen = episode.intervention | (commanded & succeeded)
    counted = commanded
    if mode == "only":
        chosen = counted = episode.intervention
    starts = np.flatnonzero(chosen)[::stride]
    # Row j holds the reference one period after its observation.
    place = starts[:, None] + np.arange(settings.horizon) * settings.step_dt * rate - 1.0
    below = np.clip(np.floor(place + 1e-9).astype(np.int64), 0, last)
    above = np.clip(np.ceil(place - 1e-9).astype(np.int64), 0, last)
    share = np.clip(place - below, 0.0, 1.0)[..., None]
    actions = (1.0 - share) * episode.action[below] + share * episode.action[above]
    # Neighbours are a few degrees apart and on the same half of the sphere: the chord will do.
    actions[..., 3:7] /= np.linalg.norm(actions[..., 3:7], axis=-1, keepdims=True)
    inside = (place > -1e-6) & (place < last + 1e-6)
    valid = inside & counted[below] & counted[above]
    useful = valid.any(axis=1)
    return Samples(starts[useful], actions[useful], valid[useful])


def load_converted(
    folders: Sequence[Path],
    cache_dir: Path,
    settings: ChunkSettings,
    mode: str,
    tokenizer: InstructionTokenizer,
    *,
    rate: float = 5.0,
    statistics: Statistics | None = None,
) -> tuple[DemonstrationSet, npt.NDArray[np.bool_]]:
    """Reads datasets as training data.

    Args:
        folders: Of one robot.
        cache_dir: Where decoded pictures are kept.
        settings: Of the chunks.
        mode: One of `MODES`.
        tokenizer: With the words of their instructions.
        rate: Chunk starts per second that are used, where there are more.
        statistics: Of a policy that goes on learning; None takes those of the training split.

    Returns:
        The samples, and (N,) which of them are corrections.

    Raises:
        DatasetError: If a dataset cannot be read, does not fit, or holds nothing to learn from.
    """
    parts: list[tuple[Dataset, Episode, Samples]] = []
    stores: list[npt.NDArray[np.uint8]] = []
    for dataset in map(Dataset, folders):
        check_cameras(dataset, settings)
        stride = max(1, round(dataset.rate / rate))
        mine = []
        for index in range(len(dataset)):
            episode = dataset.episode(index)
            found = chunk_samples(episode, dataset.rate, settings, mode, stride)
            if len(found.rows):
                mine.append((dataset, episode, found))
        if mine:
            stores.append(_decode(mine, cache_dir, settings, f"{mode}/{stride}"))
            parts += mine
    joints = {part[0].joint_names for part in parts}
    if len(joints) != 1:
        raise DatasetError(
            f"{', '.join(map(str, folders))}: "
            + (f"several arms: {sorted(joints)}" if joints else f"no rows for {mode!r}")
        )
    names = joints.pop()
    robot = next((n for n in robots.names() if tuple(robots.get(n).joint_names) == names), None)
    if robot is None:
        raise DatasetError(f"no simulated robot has the joints {', '.join(names)}")
    data = _training_data(parts, stores, settings, tokenizer, statistics, len(names))
    corrections = np.concatenate([e.intervention[s.rows] for _, e, s in parts])
    made = DemonstrationSet(
        data=data,
        tokenizer=tokenizer,
        robot=robot,
        joint_names=names,
        horizon=settings.horizon,
        step_dt=settings.step_dt,
        execute_steps=settings.execute_steps,
        cameras=settings.cameras,
        image_size=settings.image_size,
        manifest=_manifest(parts, robot, mode),
    )
    return made, corrections


def check_cameras(dataset: Dataset, settings: ChunkSettings) -> None:
    """Refuses a dataset whose pictures are not those that the policy sees.

    Raises:
        DatasetError: Naming the camera and its size.
    """
    size = settings.image_size
    for name in settings.cameras:
        if dataset.cameras.get(name) != (size, size):
            has = ", ".join(f"{n} {w}x{h}" for n, (h, w) in dataset.cameras.items())
            raise DatasetError(
                f"{dataset.folder} has no camera {name!r} of {size}x{size} px; it has {has}"
            )


def _decode(
    parts: list[tuple[Dataset, Episode, Samples]],
    cache_dir: Path,
    settings: ChunkSettings,
    how: str,
) -> npt.NDArray[np.uint8]:
    """Memory-mapped pictures of one dataset's samples, decoded once."""
    dataset, size = parts[0][0], settings.image_size
    text = json.dumps([str(dataset.folder.resolve()), dataset.info, how, settings.cameras, size])
    path = cache_dir / f"films_{hashlib.sha256(text.encode()).hexdigest()[:16]}.npy"
    if not path.is_file():
        cache_dir.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        count = sum(len(samples.rows) for _, _, samples in parts)
        shape = (count, len(settings.cameras), size, size, 3)
        images = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        begin = 0
        for _, episode, samples in parts:
            wanted = {int(row): begin + i for i, row in enumerate(samples.rows)}
            for column, camera in enumerate(settings.cameras):
                for row, frame in enumerate(dataset.frames(episode.index, camera)):
                    if row in wanted:
                        images[wanted[row], column] = frame
            begin += len(samples.rows)
        images.flush()
        del images
        os.replace(part, path)
    result: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return result


def _poses(vectors: Array) -> Array:
    return make_pose(vectors[..., :3], decode_rotations(vectors[..., 3:7], "quat_xyzw"))


def _training_data(
    parts: list[tuple[Dataset, Episode, Samples]],
    stores: list[npt.NDArray[np.uint8]],
    settings: ChunkSettings,
    tokenizer: InstructionTokenizer,
    statistics: Statistics | None,
    joints: int,
) -> TrainingData:
    raw = np.concatenate([episode.state[samples.rows] for _, episode, samples in parts])
    chunks = np.concatenate([samples.actions for _, _, samples in parts])
    valid = np.concatenate([samples.valid for _, _, samples in parts])
    pose = _poses(raw[:, 2 * joints + 1 :])
    state = encode_states(raw[:, :joints], raw[:, joints : 2 * joints], raw[:, 2 * joints], pose)
    actions = NANO_PI0_ACTION.encode(pose, _poses(chunks), chunks[..., 7])
    number = np.concatenate([np.full(len(s.rows), i) for i, (_, _, s) in enumerate(parts)])
    # Every so many-th episode is held out, and of a few the last one.
    held_out = number % VALIDATION_EVERY == min(VALIDATION_EVERY, len(parts)) - 1
    if len(parts) == 1:
        held_out = np.arange(len(number)) >= 0.9 * len(number)
    train, validation = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    if statistics is None:
        statistics = Statistics.of(state[train], actions[train])
    texts = [e.instructions[row] for _, e, s in parts for row in s.rows]
    table = {text: i for i, text in enumerate(sorted(set(texts)))}
    encoded = [tokenizer.encode(text) for text in table]
    is_velocity = np.zeros(state.shape[1], dtype=np.bool_)
    is_velocity[joints : 2 * joints] = True
    count, positions = len(state), 3 * len(POSITION_NAMES)
    return TrainingData(
        images=ImageStore(stores),
        state=torch.from_numpy(statistics.normalise_state(state).astype(np.float32)),
        is_velocity=torch.from_numpy(is_velocity),
        actions=torch.from_numpy(statistics.normalise_actions(actions).astype(np.float32)),
        actions_valid=torch.from_numpy(valid.astype(np.float32)),
        token_table=torch.from_numpy(np.stack([ids for ids, _ in encoded])),
        token_valid=torch.from_numpy(np.stack([known for _, known in encoded])),
        choices=torch.from_numpy(np.array([[table[text]] for text in texts])),
        # Nobody knows where the objects were.
        positions=torch.zeros(count, positions),
        positions_valid=torch.zeros(count, positions),
        patches=torch.full((count, len(settings.cameras), len(CLASSES)), HIDDEN),
        position_names=POSITION_NAMES,
        position_scale=POSITION_SCALE,
        statistics=statistics,
        train=train,
        validation=validation,
    )


def _manifest(
    parts: list[tuple[Dataset, Episode, Samples]], robot: str, mode: str
) -> dict[str, Any]:
    """Like that of demonstrations: what was learnt from, with the seeds of simulated scenes."""
    tasks: dict[str, list[int]] = {}
    for _, episode, _ in parts:
        tasks.setdefault(str(episode.about["task"]), []).append(int(episode.about["seed"]))
    return {
        "purpose": "demonstrations",
        "robot": robot,
        "demonstrations": [
            {
                "task": task,
                "suite": "recorded",
                "episodes": len(seeds),
                "seeds": sorted({seed for seed in seeds if seed >= 0}),
                "failed_seeds": [],
                "settings": {"mode": mode},
            }
            for task, seeds in tasks.items()
        ],
        "validation_seeds": [],
    }


def joined(first: TrainingData, second: TrainingData) -> TrainingData:
    """Both as one; ``second`` must be normalised by the statistics of ``first``."""
    width = max(first.choices.shape[1], second.choices.shape[1])

    def widened(choices: torch.Tensor) -> torch.Tensor:
        column = torch.arange(width) % choices.shape[1]
        return choices[:, column]

    count = len(first.state)
    stacked: dict[str, Any] = {
        name: torch.cat([getattr(first, name), getattr(second, name)])
        for name in (
            "state",
            "actions",
            "actions_valid",
            "token_table",
            "token_valid",
            "positions",
            "positions_valid",
            "patches",
        )
    }
    return replace(
        first,
        images=ImageStore([*first.images.parts, *second.images.parts]),
        choices=torch.cat(
            [widened(first.choices), widened(second.choices) + len(first.token_table)]
        ),
        train=np.concatenate([first.train, count + second.train]),
        validation=np.concatenate([first.validation, count + second.validation]),
        **stacked,
    )


def repeated(data: TrainingData, corrections: npt.NDArray[np.bool_]) -> TrainingData:
    """The same with corrections repeated in the training split until they weigh half.

    Args:
        data: All samples.
        corrections: (N,) which of them are.

    Raises:
        DatasetError: If there are none.
    """
    mine = data.train[corrections[data.train]]
    if not len(mine):
        raise DatasetError("there are no corrections to weigh")
    times = max(1, round((len(data.train) - len(mine)) / len(mine)))
    return replace(data, train=np.concatenate([data.train, np.tile(mine, times - 1)]))


__all__ = ["MODES", "ChunkSettings", "instructions_of", "joined", "load_converted", "repeated"]
