# SPDX-License-Identifier: Apache-2.0
"""Where the files of a LeRobotDataset v3 lie, and what its columns are.

Every episode has a data file and, per camera, a film of its own; the format allows that, and an
episode is then written, moved and left out as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vla_data.lerobot.video import ENCODERS
from vla_data.rows import ACTION_NAMES, POSE_NAMES, ChunkShape

VERSION = "v3.0"
FILES_PER_CHUNK = 1000
PLACE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{PLACE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{PLACE}.mp4"
EPISODES_PATH = f"meta/episodes/{PLACE}.parquet"
INFO_PATH, STATS_PATH, TASKS_PATH = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"

IMAGES = "observation.images."
STATE, ACTION, SUCCESS, DONE = "observation.state", "action", "next.success", "next.done"
INTERVENTION, SOURCE, STAMP = "intervention", "control_source", "stamp_ns"
CHUNK, CHUNK_AGE = "policy_chunk", "policy_chunk_age"
INDICES = ("frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class Shape:
    """What all episodes of a dataset have in common.

    Attributes:
        rate: Rows per second.
        joint_names: In the order of the state.
        sizes: Camera to ``(height, width)``, px.
        chunk: Of the policy's chunks; None without any.
        codec: Of the films, one of `vla_data.lerobot.video.ENCODERS`.
    """

    rate: int
    joint_names: tuple[str, ...]
    sizes: Mapping[str, tuple[int, int]]
    chunk: ChunkShape | None
    codec: str


def place(index: int) -> dict[str, int]:
    """Chunk and file of the file with a running number."""
    return {"chunk_index": index // FILES_PER_CHUNK, "file_index": index % FILES_PER_CHUNK}


def state_names(joint_names: tuple[str, ...]) -> list[str]:
    """Entries of the state: rad, rad/s, m, and the tool's pose in the base frame."""
    return [
        *(f"q/{name}" for name in joint_names),
        *(f"dq/{name}" for name in joint_names),
        "gripper_opening",
        *(f"pose_tool_in_base/{name}" for name in POSE_NAMES),
    ]


def numeric_features(shape: Shape) -> dict[str, dict[str, Any]]:
    """The columns that have statistics, as ``info.json`` describes them."""
    names = state_names(shape.joint_names)
    return {
        STATE: {"dtype": "float32", "shape": [len(names)], "names": names},
        ACTION: {
            "dtype": "float32",
            "shape": [len(ACTION_NAMES)],
            "names": [*(f"reference/{name}" for name in ACTION_NAMES)],
        },
        INTERVENTION: _scalar("bool"),
        SUCCESS: _scalar("bool"),
        DONE: _scalar("bool"),
        STAMP: _scalar("int64"),
        "timestamp": _scalar("float32"),
        **{name: _scalar("int64") for name in INDICES},
    }


def features(shape: Shape) -> dict[str, dict[str, Any]]:
    """All columns, as ``info.json`` describes them."""
    found = numeric_features(shape)
    found[SOURCE] = _scalar("string")
    if shape.chunk is not None:
        size = [shape.chunk.steps, len(shape.chunk.names)]
        found[CHUNK] = {
            "dtype": "float32",
            "shape": size,
            "names": {"step": None, "value": list(shape.chunk.names)},
        }
        found[CHUNK_AGE] = _scalar("float32")
    for camera, (height, width) in shape.sizes.items():
        found[f"{IMAGES}{camera}"] = {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.codec": shape.codec,
                "video.pix_fmt": ENCODERS[shape.codec][1],
                "video.is_depth_map": False,
                "video.fps": shape.rate,
                "video.channels": 3,
                "has_audio": False,
            },
        }
    return found


def _scalar(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "names": None}
