# SPDX-License-Identifier: Apache-2.0
"""Staged episodes as one dataset, which appears under its name when it is whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_data.contract import ObservationContract
from vla_data.lerobot import layout
from vla_data.lerobot.layout import Shape
from vla_data.lerobot.staging import COLUMNS_FILE, read_staged
from vla_data.lerobot.statistics import Statistics, column_statistics, pooled
from vla_data.rows import SOURCES

Arrays = dict[str, NDArray[Any]]


def assemble(
    staged: Sequence[Path], out: Path, shape: Shape, contract: ObservationContract
) -> None:
    """Writes a dataset.

    Args:
        staged: Folders of its episodes, in order; their films are moved.
        out: The dataset's folder; must not exist.
        shape: What they have in common.
        contract: Of the robot; its name is the dataset's ``robot_type``.
    """
    part = out.with_name(f"{out.name}.assembling")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    tasks: dict[str, int] = {}
    episodes: list[dict[str, Any]] = []
    statistics: list[dict[str, Statistics]] = []
    begin = 0
    for number, folder in enumerate(staged):
        found = read_staged(folder)
        arrays = _columns(folder, found, tasks, number, begin)
        _write_table(part / layout.DATA_PATH.format(**layout.place(number)), _table(arrays, shape))
        for camera in shape.sizes:
            place = layout.VIDEO_PATH.format(
                video_key=f"{layout.IMAGES}{camera}", **layout.place(number)
            )
            (part / place).parent.mkdir(parents=True, exist_ok=True)
            os.link(folder / f"{camera}.mp4", part / place)
        of_columns = {
            name: column_statistics(arrays[name]) for name in layout.numeric_features(shape)
        }
        of_cameras = {
            f"{layout.IMAGES}{camera}": {k: np.array(v) for k, v in values.items()}
            for camera, values in found["pictures"].items()
        }
        statistics.append({**of_columns, **of_cameras})
        episodes.append(_episode(found, shape, number, begin, statistics[-1]))
        begin += found["length"]
    _write_table(
        part / layout.EPISODES_PATH.format(**layout.place(0)), pa.Table.from_pylist(episodes)
    )
    _write_table(part / layout.TASKS_PATH, _tasks_table(list(tasks)))
    _write_json(part / layout.INFO_PATH, _info(shape, contract, len(staged), begin, len(tasks)))
    _write_json(
        part / layout.STATS_PATH,
        {
            name: {
                key: value.tolist()
                for key, value in pooled([episode[name] for episode in statistics]).items()
            }
            for name in statistics[0]
        },
    )
    os.replace(part, out)


def _columns(
    folder: Path, found: dict[str, Any], tasks: dict[str, int], number: int, begin: int
) -> Arrays:
    """The columns of an episode with its place in the dataset."""
    with np.load(folder / COLUMNS_FILE, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    length = int(found["length"])
    numbers = [tasks.setdefault(text, len(tasks)) for text in found["instructions"]]
    arrays["task_index"] = np.array(numbers, dtype=np.int64)[arrays.pop("instruction")]
    arrays["frame_index"] = np.arange(length, dtype=np.int64)
    arrays["index"] = begin + arrays["frame_index"]
    arrays["episode_index"] = np.full(length, number, dtype=np.int64)
    arrays[layout.DONE] = arrays["frame_index"] == length - 1
    arrays[layout.SUCCESS] = arrays[layout.DONE] & (found["outcome"]["outcome"] == "success")
    return arrays


def _table(arrays: Arrays, shape: Shape) -> pa.Table:
    arrays["timestamp"] = (arrays["frame_index"] / shape.rate).astype(np.float32)
    length = len(arrays["index"])
    if shape.chunk is not None and layout.CHUNK not in arrays:
        size = (length, shape.chunk.steps, len(shape.chunk.names))
        arrays[layout.CHUNK] = np.full(size, np.nan, dtype=np.float32)
        arrays[layout.CHUNK_AGE] = np.full(length, np.nan, dtype=np.float32)
    columns: dict[str, pa.Array] = {}
    for name, feature in layout.features(shape).items():
        if feature["dtype"] == "string":
            columns[name] = pa.array([SOURCES[i] for i in arrays[name]])
        elif feature["dtype"] != "video":
            columns[name] = _nested(arrays[name])
    return pa.table(columns)


def _nested(values: NDArray[Any]) -> pa.Array:
    """An array of any number of axes as lists of lists."""
    if values.ndim == 1:
        return pa.array(values)
    inner = _nested(values.reshape(-1, *values.shape[2:]))
    offsets = np.arange(0, len(values) * values.shape[1] + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, inner)


def _episode(
    found: dict[str, Any], shape: Shape, number: int, begin: int, statistics: dict[str, Statistics]
) -> dict[str, Any]:
    """One line of the table of episodes: what the format asks for, and where it comes from."""
    place = layout.place(number)
    line: dict[str, Any] = {
        "episode_index": number,
        "tasks": found["instructions"],
        "length": found["length"],
        "dataset_from_index": begin,
        "dataset_to_index": begin + found["length"],
        "data/chunk_index": place["chunk_index"],
        "data/file_index": place["file_index"],
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
    }
    for camera in shape.sizes:
        key = f"videos/{layout.IMAGES}{camera}"
        line[f"{key}/chunk_index"] = place["chunk_index"]
        line[f"{key}/file_index"] = place["file_index"]
        line[f"{key}/from_timestamp"] = 0.0
        line[f"{key}/to_timestamp"] = found["length"] / shape.rate
        line[f"true_rate_hz/{camera}"] = found["camera_rates_hz"][camera]
    episode, outcome = found["episode"], found["outcome"]
    line.update(
        bag=found["bag"],
        repeated_rows=found["repeated_rows"],
        outcome=outcome["outcome"],
        outcome_source=outcome["source"],
        source=episode["source"],
        task=episode["task"],
        seed=-1 if episode["seed"] is None else episode["seed"],
        policy_id=episode["policy_id"],
    )
    for name, values in statistics.items():
        for key, value in values.items():
            line[f"stats/{name}/{key}"] = value.tolist()
    return line


def _tasks_table(tasks: list[str]) -> pa.Table:
    """Instruction to number; the instruction is the index that pandas makes of it."""
    table = pa.table(
        {
            "task_index": pa.array(range(len(tasks)), pa.int64()),
            "task": pa.array(tasks, pa.string()),
        }
    )
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": of, "metadata": None}
        for name, kind, of in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [
            {
                "name": None,
                "field_name": None,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": {"encoding": "UTF-8"},
            }
        ],
        "columns": columns,
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _info(
    shape: Shape, contract: ObservationContract, episodes: int, frames: int, tasks: int
) -> dict[str, Any]:
    return {
        "codebase_version": layout.VERSION,
        "robot_type": contract.name,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": layout.FILES_PER_CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": shape.rate,
        "splits": {"train": f"0:{episodes}"},
        "data_path": layout.DATA_PATH,
        "video_path": layout.VIDEO_PATH,
        "features": layout.features(shape),
        "base_frame": contract.base_frame,
        "tool_frame": contract.tool_frame,
        "joint_names": list(contract.joints.names),
    }


def _write_table(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
