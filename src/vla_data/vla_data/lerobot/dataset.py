# SPDX-License-Identifier: Apache-2.0
"""A converted dataset, read back: columns as arrays, films frame by frame."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_data.lerobot import layout
from vla_data.lerobot.video import read_film
from vla_data.rows import SOURCES

COLUMNS = (layout.STATE, layout.ACTION, layout.INTERVENTION, layout.SOURCE, "task_index")


class DatasetError(ValueError):
    """A dataset is missing, of another format, or lacks a column."""


@dataclass(frozen=True)
class Episode:
    """One episode of a dataset.

    Attributes:
        index: Its number.
        state: ``(rows, entries)``, see `vla_data.lerobot.layout.state_names`.
        action: ``(rows, 8)``, see `vla_data.rows.ACTION_NAMES`.
        intervention: ``(rows,)`` whether the operator commanded the action.
        source: ``(rows,)`` who did, as an index into `vla_data.rows.SOURCES`.
        instructions: Per row.
        about: Its line in the table of episodes, without statistics.
    """

    index: int
    state: NDArray[np.float64]
    action: NDArray[np.float64]
    intervention: NDArray[np.bool_]
    source: NDArray[np.int64]
    instructions: tuple[str, ...]
    about: Mapping[str, Any]


class Dataset:
    """A LeRobotDataset v3 that `vla convert` has written.

    Args:
        folder: Of the dataset.

    Attributes:
        folder: As given.
        info: What ``meta/info.json`` holds.
        rate: Rows per second.
        joint_names: In the order of the state.
        cameras: Camera to ``(height, width)``, px.

    Raises:
        DatasetError: If it is none, or lacks a column.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / layout.INFO_PATH
        if not path.is_file():
            raise DatasetError(f"no dataset in {folder}: {layout.INFO_PATH} is missing")
        self.info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not str(self.info.get("codebase_version", "")).startswith("v3"):
            raise DatasetError(
                f"{path} is of version {self.info.get('codebase_version')!r}, not {layout.VERSION}"
            )
        features = self.info["features"]
        missing = [name for name in COLUMNS if name != "task_index" and name not in features]
        if missing or "joint_names" not in self.info:
            raise DatasetError(
                f"{folder} was not written by `vla convert`: it lacks "
                f"{', '.join(missing) or 'joint_names'}"
            )
        self.rate = int(self.info["fps"])
        self.joint_names = tuple(self.info["joint_names"])
        self.cameras = {
            name.removeprefix(layout.IMAGES): (feature["shape"][0], feature["shape"][1])
            for name, feature in features.items()
            if feature["dtype"] == "video"
        }
        tasks = pq.read_table(folder / layout.TASKS_PATH).to_pydict()
        self._tasks = dict(zip(tasks["task_index"], tasks["task"], strict=True))
        table = pq.read_table(folder / "meta" / "episodes")
        kept = [name for name in table.column_names if not name.startswith("stats/")]
        self._lines: list[dict[str, Any]] = table.select(kept).to_pylist()

    @property
    def instructions(self) -> list[str]:
        """Every instruction in it."""
        return list(self._tasks.values())

    def __len__(self) -> int:
        return len(self._lines)

    def episode(self, index: int) -> Episode:
        """Reads one episode, without its pictures."""
        line = self._lines[index]
        path = self.folder / self.info["data_path"].format(**_place(line, "data"))
        table = pq.read_table(path, columns=list(COLUMNS))
        return Episode(
            index=index,
            state=np.array(table[layout.STATE].to_pylist(), dtype=np.float64),
            action=np.array(table[layout.ACTION].to_pylist(), dtype=np.float64),
            intervention=np.array(table[layout.INTERVENTION].to_pylist(), dtype=np.bool_),
            source=np.array([SOURCES.index(s) for s in table[layout.SOURCE].to_pylist()]),
            instructions=tuple(self._tasks[i] for i in table["task_index"].to_pylist()),
            about=line,
        )

    def stamps(self, index: int) -> list[int]:
        """ROS time of each of an episode's observations, ns."""
        path = self.folder / self.info["data_path"].format(**_place(self._lines[index], "data"))
        found: list[int] = pq.read_table(path, columns=[layout.STAMP])[layout.STAMP].to_pylist()
        return found

    def frames(self, index: int, camera: str) -> Iterator[NDArray[np.uint8]]:
        """Yields the pictures of an episode's camera, one per row."""
        key = f"{layout.IMAGES}{camera}"
        place = _place(self._lines[index], f"videos/{key}")
        yield from read_film(self.folder / self.info["video_path"].format(video_key=key, **place))


def _place(line: Mapping[str, Any], prefix: str) -> dict[str, int]:
    return {name: line[f"{prefix}/{name}"] for name in ("chunk_index", "file_index")}
