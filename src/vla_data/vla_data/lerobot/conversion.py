# SPDX-License-Identifier: Apache-2.0
"""Bags to a LeRobotDataset: several at a time, resumable, and without those that are damaged."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from vla_data.contract import ObservationContract
from vla_data.definitions import DefinitionError
from vla_data.episode_reader import EpisodeReadError
from vla_data.lerobot.assembly import assemble
from vla_data.lerobot.layout import Shape
from vla_data.lerobot.staging import EPISODE_FILE, Job, folder_name, stage, survey_bag
from vla_data.observation import ObservationError
from vla_data.rows import Survey, common_rate

# What is wrong with one bag, and says nothing of the others.
DAMAGE = (EpisodeReadError, ObservationError, DefinitionError)

Progress = Callable[[int, int, str], None]


class ConversionError(ValueError):
    """There is nothing to convert, or nowhere to put it."""


@dataclass(frozen=True)
class Conversion:
    """What was made.

    Attributes:
        folder: Of the dataset.
        rate: Rows per second.
        episodes: What is known of each episode, in order.
        skipped: Bag to why it is not among them.
        converted_s: Recorded time that was converted in this run, s.
        elapsed_s: Taken by that, s.
    """

    folder: Path
    rate: int
    episodes: list[dict[str, Any]]
    skipped: dict[str, str]
    converted_s: float
    elapsed_s: float


def convert(
    bags: Sequence[Path],
    out: Path,
    contract: ObservationContract,
    *,
    rate: int | None = None,
    codec: str = "h264",
    workers: int = 2,
    progress: Progress | None = None,
) -> Conversion:
    """Converts bags.

    What is finished is kept in ``<out>.part`` until the dataset is whole: the same call goes on
    from there.

    Args:
        bags: One per episode, in the order of the episodes.
        out: The dataset's folder; must not exist.
        contract: Of the robot, with its cameras.
        rate: Rows per second; None = that of the slowest camera, by its stamps.
        codec: One of `vla_data.lerobot.video.ENCODERS`.
        workers: Processes.
        progress: Called with the bags done, their number and the name of the last.

    Returns:
        What was made.

    Raises:
        ConversionError: If ``out`` exists, or no bag could be converted.
        OSError: If the folder cannot be written.
    """
    for name, value in (("rate", rate), ("workers", workers)):
        if value is not None and not 1 <= value <= 1000:
            raise ConversionError(f"{name} is {value}; valid: 1 to 1000")
    if out.exists():
        raise ConversionError(f"{out} exists; name another folder, or remove it")
    if len({bag.resolve() for bag in bags}) != len(bags):
        raise ConversionError("a bag is named twice")
    began = time.monotonic()
    staging = out.with_name(f"{out.name}.part")
    staging.mkdir(parents=True, exist_ok=True)
    tell = progress or (lambda done, total, name: None)
    skipped: dict[str, str] = {}
    with _Pool(workers) as pool:
        surveys = pool.each(
            {bag: (survey_bag, bag, contract) for bag in bags}, skipped, lambda *_: None
        )
        if not surveys:
            raise ConversionError(f"nothing to convert: {_reasons(skipped)}")
        shape = common_shape(list(surveys.values()), contract, rate, codec)
        jobs = {
            bag: Job(bag, contract, shape, found, staging / folder_name(bag, contract, shape))
            for bag, found in surveys.items()
        }
        new = {bag for bag, job in jobs.items() if not (job.folder / EPISODE_FILE).is_file()}
        done = pool.each({bag: (stage, job) for bag, job in jobs.items()}, skipped, tell)
    order = [bag for bag in bags if bag in done]
    if not order:
        raise ConversionError(f"nothing could be converted: {_reasons(skipped)}")
    assemble([jobs[bag].folder for bag in order], out, shape, contract)
    shutil.rmtree(staging, ignore_errors=True)
    return Conversion(
        folder=out,
        rate=shape.rate,
        episodes=[done[bag] for bag in order],
        skipped=skipped,
        converted_s=sum(done[bag]["duration_s"] for bag in order if bag in new),
        elapsed_s=time.monotonic() - began,
    )


def common_shape(
    surveys: Sequence[Survey], contract: ObservationContract, rate: int | None, codec: str
) -> Shape:
    """What the episodes of a dataset have in common: the first decides, where they differ."""
    return Shape(
        rate=rate or common_rate(list(surveys)),
        joint_names=contract.joints.names,
        sizes=surveys[0].sizes,
        chunk=next((one.chunk for one in surveys if one.chunk is not None), None),
        codec=codec,
    )


@dataclass(frozen=True)
class _Damage:
    """Why a bag was left out."""

    reason: str


def _guarded(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function; what is wrong with a bag becomes a result."""
    try:
        return function(*arguments)
    except DAMAGE as error:
        return _Damage(str(error))


class _Pool:
    """Processes that each do one bag at a time."""

    def __init__(self, workers: int) -> None:
        self._executor = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer=_begin_worker
        )

    def each(
        self, calls: Mapping[Path, tuple[Any, ...]], skipped: dict[str, str], tell: Progress
    ) -> dict[Path, Any]:
        """Calls functions, and gives the results in the order of the calls."""
        pending: dict[Future[Any], Path] = {
            self._executor.submit(_guarded, *call): bag for bag, call in calls.items()
        }
        results: dict[Path, Any] = {}
        for number, future in enumerate(as_completed(pending), 1):
            bag = pending[future]
            try:
                result = future.result()
            except BrokenProcessPool:
                raise OSError(f"a process ended unexpectedly, perhaps at {bag}") from None
            if isinstance(result, _Damage):
                skipped[str(bag)] = result.reason
            else:
                results[bag] = result
            tell(number, len(pending), bag.name)
        return {bag: results[bag] for bag in calls if bag in results}

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    cv2.setNumThreads(1)  # each process has a core of its own
    # Ctrl-C reaches the whole group of processes; the one that was asked ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _reasons(skipped: Mapping[str, str]) -> str:
    return "; ".join(f"{bag}: {why}" for bag, why in skipped.items()) or "no bags"
