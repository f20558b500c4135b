# SPDX-License-Identifier: Apache-2.0
"""OpenVLA's rollouts on LIBERO: per episode a record with the hidden states, and a table (CSV).

There is one action per inference and no chunk, and the table has no pose of the tool: a chunk here
is the next pose relative to the start of the episode; the state is how far the tool has gone.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ..episodes import Episode, FailureDetectionError, aggregate_features
from .libero import STEP_DT, Name, chunk_of_actions, episode_info, value_of
from .restricted import read_record

FEATURES = "hidden_states"
_ACTION = tuple(f"action/d{axis}" for axis in ("x", "y", "z", "roll", "pitch", "yaw", "gripper"))
_WAY = ("pose/cum_pos", "pose/cum_rot")


def read_openvla(source: Path, policy: str) -> Iterator[tuple[Episode, tuple[int, int, int]]]:
    """Episodes one after the other, each with the shape of its features.

    Args:
        source: Folder with ``task<T>--ep<E>--succ<0 or 1>.pkl`` and ``.csv``.
        policy: Id that the policy is given.

    Raises:
        FailureDetectionError: Naming the file that is missing or not as expected.
    """
    paths = sorted(
        source.glob("*.pkl"), key=lambda path: (Name.of(path).task, Name.of(path).episode)
    )
    if not paths:
        raise FailureDetectionError(
            f"no task<T>--ep<E>--succ<S>.pkl in {source}: were hidden states recorded?"
        )
    for path in paths:
        yield _episode(path, Name.of(path), policy)


def _episode(path: Path, name: Name, policy: str) -> tuple[Episode, tuple[int, int, int]]:
    record = read_record(path)
    suite = str(value_of(record, path, "task_suite_name"))
    # (T, tokens of the action, W); the layout has no flow steps.
    hidden = np.asarray(value_of(record, path, FEATURES), np.float32)
    if hidden.ndim != 3:
        raise FailureDetectionError(
            f"{path}: {FEATURES} are {hidden.shape}; need (T, tokens, width)"
        )
    success = bool(value_of(record, path, "episode_success"))
    if success != name.success:
        raise FailureDetectionError(
            f"{path.name}: episode_success is {success}, its name says {name.success}"
        )
    rows = _table(path.with_suffix(".csv"), len(hidden))
    actions = _columns(rows, _ACTION, path)
    steps = _columns(rows, ("action/timestep",), path)[:, 0]
    travelled = chunk_of_actions(actions, np.zeros(3), Rotation.identity())
    info = episode_info(
        name,
        policy,
        suite,
        str(value_of(record, path, "task_description")),
        inferences=len(hidden),
        success_time=len(hidden) * STEP_DT if success else None,
        execute_steps=1,
    )
    episode = Episode(
        info=info,
        times=(steps - steps[0]) * STEP_DT,
        features=np.stack([aggregate_features(one[None]) for one in hidden]).astype(np.float16),
        chunks=travelled[:, None],
        states=_columns(rows, _WAY, path).astype(np.float32),
    )
    return episode, (1, int(hidden.shape[1]), int(hidden.shape[2]))


def _table(path: Path, count: int) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FailureDetectionError(f"{path} cannot be read: {error}") from error
    if len(rows) != count:
        raise FailureDetectionError(f"{path} has {len(rows)} rows for {count} inferences")
    return rows


def _columns(
    rows: Sequence[Mapping[str, str]], names: Sequence[str], path: Path
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    try:
        return np.array([[float(row[name]) for name in names] for row in rows])
    except (KeyError, TypeError, ValueError) as error:
        raise FailureDetectionError(
            f"{path.with_suffix('.csv')} lacks numbers in {', '.join(names)}: {error!r}"
        ) from error
