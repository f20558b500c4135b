# SPDX-License-Identifier: Apache-2.0
"""One bag as one finished episode in a folder of its own, which appears when it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

import vla_control
from vla_data.contract import ForwardKinematics, ObservationContract
from vla_data.episode_reader import EpisodeReader, EpisodeReadError
from vla_data.lerobot import layout
from vla_data.lerobot.layout import Shape
from vla_data.lerobot.statistics import picture_statistics
from vla_data.lerobot.video import FilmWriter
from vla_data.observation import Observation, ObservationError
from vla_data.report.measures import final_outcome
from vla_data.rows import SOURCES, Row, Survey, grid, read_rows, survey
from vla_data.synchronisation import NS_PER_S

COLUMNS_FILE, EPISODE_FILE = "columns.npz", "episode.json"
# Statistics of pictures are taken over every so many rows and pixels.
PICTURE_STRIDE, PIXEL_STRIDE = 10, 4


@dataclass(frozen=True)
class Job:
    """One bag to convert.

    Attributes:
        bag: Its folder.
        contract: Of the robot.
        shape: Of the dataset.
        found: The bag's survey.
        folder: Receives the episode.
    """

    bag: Path
    contract: ObservationContract
    shape: Shape
    found: Survey
    folder: Path


def survey_bag(bag: Path, contract: ObservationContract) -> Survey:
    """Surveys a bag.

    Raises:
        EpisodeReadError: It was never finished, is damaged, or lacks a topic.
        ObservationError: It holds no rows.
    """
    with EpisodeReader(bag) as reader:
        if reader.problems or not reader.finished:
            raise EpisodeReadError(f"{bag} is damaged: {'; '.join(reader.problems)}")
        return survey(reader, contract)


def folder_name(bag: Path, contract: ObservationContract, shape: Shape) -> str:
    """Name of a staged episode: another for another bag, contract or shape."""
    stat = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(bag.glob("*"))]
    text = repr((str(bag.resolve()), stat, contract, shape))
    name = re.sub(r"[^A-Za-z0-9._-]", "_", bag.name)
    return f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def stage(job: Job) -> dict[str, Any]:
    """Converts a bag; what is there already is not made again.

    Returns:
        What ``episode.json`` holds.

    Raises:
        EpisodeReadError: If the bag is damaged.
        ObservationError: If a row cannot be built, or it does not fit the dataset.
        OSError: If the folder cannot be written.
    """
    if (job.folder / EPISODE_FILE).is_file():
        return read_staged(job.folder)
    check_fits(job.found, job.shape)
    part = job.folder.with_name(f"{job.folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        episode = _write(job, part)
        text = json.dumps(episode, indent=1)
        (part / EPISODE_FILE).write_text(text + "\n", encoding="utf-8")
        os.replace(part, job.folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return episode


def read_staged(folder: Path) -> dict[str, Any]:
    """What `stage` has found out about a bag."""
    found: dict[str, Any] = json.loads((folder / EPISODE_FILE).read_text(encoding="utf-8"))
    return found


def check_fits(found: Survey, shape: Shape) -> None:
    """Refuses a bag that the dataset cannot hold.

    Raises:
        ObservationError: Naming what differs.
    """
    for name, size in shape.sizes.items():
        if found.sizes[name] != size:
            raise ObservationError(
                f"camera {name!r}",
                f"is {found.sizes[name][1]}x{found.sizes[name][0]} px, the dataset's is "
                f"{size[1]}x{size[0]} px",
            )
    if found.chunk is not None and found.chunk != shape.chunk:
        raise ObservationError("policy", f"makes {found.chunk}, the dataset holds {shape.chunk}")


def kinematics(description: str, contract: ObservationContract) -> ForwardKinematics:
    """Forward kinematics of the arm in a bag.

    Raises:
        ObservationError: If its URDF is not the contract's arm.
    """
    try:
        model = vla_control.RobotModel(
            vla_control.RobotDescription(
                urdf_xml=description,
                joint_names=list(contract.joints.names),
                base_frame=contract.base_frame,
                tool_frame=contract.tool_frame,
            )
        )
    except ValueError as error:
        raise ObservationError("robot_description", str(error)) from None
    return model.forward_kinematics


class _Columns:
    """The columns of an episode while its rows come in."""

    def __init__(self, shape: Shape) -> None:
        self._chunk = shape.chunk
        self.values: dict[str, list[Any]] = {
            name: []
            for name in (
                layout.STATE,
                layout.ACTION,
                layout.INTERVENTION,
                layout.SOURCE,
                layout.STAMP,
                layout.CHUNK,
                layout.CHUNK_AGE,
                "instruction",
            )
        }
        self.instructions: list[str] = []
        self.repeated = 0
        self._quaternion = np.zeros(4)

    def add(self, row: Row) -> None:
        observation, values = row.observation, self.values
        if observation.instruction not in self.instructions:
            self.instructions.append(observation.instruction)
        values["instruction"].append(self.instructions.index(observation.instruction))
        values[layout.STATE].append(self._state(observation))
        values[layout.ACTION].append(row.action)
        values[layout.INTERVENTION].append(row.intervention)
        values[layout.SOURCE].append(SOURCES.index(row.control_source))
        values[layout.STAMP].append(observation.stamp_ns)
        if self._chunk is not None:
            size = (self._chunk.steps, len(self._chunk.names))
            if row.chunk is not None and row.chunk.shape != size:
                raise ObservationError("policy", f"made a chunk of {row.chunk.shape}, not {size}")
            values[layout.CHUNK].append(np.full(size, np.nan) if row.chunk is None else row.chunk)
            values[layout.CHUNK_AGE].append(row.chunk_age)
        self.repeated += row.repeated

    def _state(self, observation: Observation) -> NDArray[np.float64]:
        pose = observation.pose_tool_in_base
        quaternion = Rotation.from_matrix(pose[:3, :3]).as_quat()
        if float(quaternion @ self._quaternion) < 0.0:
            quaternion = -quaternion
        self._quaternion = quaternion
        parts = (observation.q, observation.dq, [observation.gripper_opening], pose[:3, 3])
        return np.concatenate([*parts, quaternion])

    def arrays(self) -> dict[str, NDArray[Any]]:
        kinds = {layout.INTERVENTION: np.bool_, layout.STAMP: np.int64, layout.SOURCE: np.int64}
        kinds["instruction"] = np.int64
        return {
            name: np.array(rows, dtype=kinds.get(name, np.float32))
            for name, rows in self.values.items()
            if rows
        }


def _write(job: Job, folder: Path) -> dict[str, Any]:
    shape, columns = job.shape, _Columns(job.shape)
    samples: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in shape.sizes}
    films = {
        name: FilmWriter(folder / f"{name}.mp4", shape.codec, shape.rate, size)
        for name, size in shape.sizes.items()
    }
    with EpisodeReader(job.bag) as reader:
        info, outcome = reader.info, final_outcome(reader)
        forward = kinematics(job.found.description, job.contract)
        try:
            rows = read_rows(reader, job.contract, job.found, shape.rate, forward)
            for number, row in enumerate(rows):
                columns.add(row)
                for name, film in films.items():
                    picture = row.observation.images[name]
                    film.add(picture)
                    if number % PICTURE_STRIDE == 0:
                        samples[name].append(picture[::PIXEL_STRIDE, ::PIXEL_STRIDE].copy())
        finally:
            for film in films.values():
                film.close()
    arrays = columns.arrays()
    np.savez(folder / COLUMNS_FILE, **cast(dict[str, Any], arrays))
    rates = job.found.rates
    return {
        "bag": job.bag.name,
        "length": len(arrays[layout.STATE]),
        "instructions": columns.instructions,
        "duration_s": (job.found.owned_ns[1] - grid(job.found, shape.rate)[0]) / NS_PER_S,
        "repeated_rows": columns.repeated,
        "camera_rates_hz": rates,
        "outcome": asdict(outcome),
        "episode": {**info.to_custom_data(), "seed": info.seed},
        "pictures": {
            name: {key: value.tolist() for key, value in picture_statistics(taken).items()}
            for name, taken in samples.items()
        },
    }
