# SPDX-License-Identifier: Apache-2.0
"""Rollouts on disk: per shard a table (parquet) and tensors (safetensors), joined by episode ids.

A shard counts as written when its table is there; the tensors are written before it. Nothing is
ever joined by order: a tensor's name is ``<episode id>/<array>``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .episodes import Episode, EpisodeInfo, FailureDetectionError, Outcome

FORMAT = 1
MANIFEST = "manifest.json"
TABLE, TENSORS = ".parquet", ".safetensors"

_SCHEMA = pa.schema(
    [
        pa.field("episode_id", pa.string(), nullable=False),
        pa.field("policy_id", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("suite", pa.string(), nullable=False),
        pa.field("perturbation", pa.string(), nullable=False),
        pa.field("severity", pa.float64(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("instruction", pa.string(), nullable=False),
        pa.field("time_limit", pa.float64(), nullable=False),
        pa.field("step_dt", pa.float64(), nullable=False),
        pa.field("execute_steps", pa.int64(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("success_time", pa.float64()),
        pa.field("onset_step", pa.int64()),
        pa.field("steps", pa.int64(), nullable=False),
        pa.field("samples", pa.int64(), nullable=False),
    ]
)
# Columns that say how large the tensors are; the rest is an ``EpisodeInfo``.
_SIZES = ("steps", "samples")
_REQUIRED = ("times", "features", "chunks", "states")


def write_shard(folder: Path, name: str, episodes: Sequence[Episode]) -> None:
    """Writes episodes as one shard; a crash leaves none, or the one before.

    Args:
        folder: Of the rollouts; made if missing.
        name: Of the shard.
        episodes: With ids of their own.

    Raises:
        FailureDetectionError: If ids are given twice or there are no episodes.
    """
    if not episodes:
        raise FailureDetectionError(f"the shard {name!r} has no episodes")
    check_ids(episode.info for episode in episodes)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{episode.info.episode_id}/{key}": np.ascontiguousarray(array)
        for episode in episodes
        for key, array in episode.arrays().items()
    }
    table = pa.Table.from_pylist([_row(episode) for episode in episodes], schema=_SCHEMA)
    temporary = folder / f"{name}.tmp"
    save_file(tensors, temporary)
    os.replace(temporary, folder / f"{name}{TENSORS}")
    pq.write_table(table, temporary)
    os.replace(temporary, folder / f"{name}{TABLE}")


def has_shard(folder: Path, name: str) -> bool:
    """Whether a shard is complete."""
    return (folder / f"{name}{TABLE}").is_file() and (folder / f"{name}{TENSORS}").is_file()


def read_table(folder: Path) -> list[EpisodeInfo]:
    """The rows of all shards of a folder, without their tensors.

    Raises:
        FailureDetectionError: If there are none, an id occurs twice or a row cannot be read.
    """
    infos = [info for shard in _shards(folder) for info, _ in _rows(shard)]
    check_ids(infos)
    return infos


def read_rollouts(*folders: Path) -> list[Episode]:
    """All episodes of some folders.

    Raises:
        FailureDetectionError: Naming the episode, or the file, that is missing, given twice or not
            as its table says.
    """
    episodes = [e for folder in folders for shard in _shards(folder) for e in _read_shard(shard)]
    check_ids(episode.info for episode in episodes)
    return episodes


def check_ids(infos: Iterable[EpisodeInfo]) -> None:
    """Refuses ids that are given twice.

    Raises:
        FailureDetectionError: Naming the first of them.
    """
    seen: set[str] = set()
    for info in infos:
        if info.episode_id in seen:
            raise FailureDetectionError(f"the episode {info.episode_id} is there twice")
        seen.add(info.episode_id)


def write_manifest(folder: Path, settings: dict[str, Any]) -> None:
    """Notes what a folder of rollouts is made of, or checks that it is made of the same.

    Raises:
        FailureDetectionError: If the folder holds rollouts of other settings.
    """
    wanted = json.loads(json.dumps({"format": FORMAT, **settings}))
    if (folder / MANIFEST).is_file():
        found = read_manifest(folder)
        other = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
        if other:
            raise FailureDetectionError(
                f"{folder} holds rollouts of other settings: "
                + "; ".join(f"{k} is {found.get(k)!r}, not {wanted.get(k)!r}" for k in other)
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{MANIFEST}.tmp"
    temporary.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What ``write_manifest`` noted.

    Raises:
        FailureDetectionError: If it is missing or of another format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FailureDetectionError(f"{MANIFEST} is missing in {folder}: no rollouts there")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("format") != FORMAT:
        raise FailureDetectionError(f"{path} has format {manifest.get('format')}, not {FORMAT}")
    return manifest


def _shards(folder: Path) -> list[Path]:
    shards = sorted(folder.glob(f"*{TABLE}"))
    if not shards:
        raise FailureDetectionError(f"no rollouts in {folder}")
    return shards


def _row(episode: Episode) -> dict[str, Any]:
    values = asdict(episode.info)
    samples = 0 if episode.samples is None else episode.samples.shape[1]
    return {**values, "outcome": str(values["outcome"]), "steps": len(episode), "samples": samples}


def _rows(shard: Path) -> list[tuple[EpisodeInfo, dict[str, int]]]:
    try:
        rows = pq.read_table(shard, schema=_SCHEMA).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise FailureDetectionError(f"{shard} cannot be read: {error}") from error
    found = []
    for row in rows:
        sizes = {name: int(row.pop(name)) for name in _SIZES}
        try:
            row["outcome"] = Outcome(row["outcome"])
        except ValueError as error:
            raise FailureDetectionError(f"{shard}: {error}; valid: {', '.join(Outcome)}") from error
        found.append((EpisodeInfo(**row), sizes))
    return found


def _read_shard(shard: Path) -> list[Episode]:
    path = shard.with_suffix(TENSORS)
    rows = _rows(shard)
    try:
        with safe_open(path, framework="np") as tensors:
            names = set(tensors.keys())
            episodes = [_read_episode(info, sizes, tensors, names) for info, sizes in rows]
    except (OSError, SafetensorError) as error:
        raise FailureDetectionError(f"{path} cannot be read: {error}") from error
    known = {info.episode_id for info, _ in rows}
    stray = sorted(name for name in names if name.rpartition("/")[0] not in known)
    if stray:
        raise FailureDetectionError(f"{path} holds {stray[0]}, which its table does not name")
    return episodes


def _read_episode(
    info: EpisodeInfo, sizes: dict[str, int], tensors: Any, names: set[str]
) -> Episode:
    wanted = [*_REQUIRED, *(["samples"] if sizes["samples"] else [])]
    missing = [key for key in wanted if f"{info.episode_id}/{key}" not in names]
    if missing:
        raise FailureDetectionError(f"{info.episode_id} lacks {', '.join(missing)}")
    arrays = {key: tensors.get_tensor(f"{info.episode_id}/{key}") for key in wanted}
    episode = Episode(info, **arrays)
    samples = 0 if episode.samples is None else episode.samples.shape[1]
    if (len(episode), samples) != (sizes["steps"], sizes["samples"]):
        raise FailureDetectionError(
            f"{info.episode_id} has {len(episode)} steps and {samples} samples; its table says "
            f"{sizes['steps']} and {sizes['samples']}"
        )
    return episode
