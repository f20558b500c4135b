# SPDX-License-Identifier: Apache-2.0
"""π0's rollouts on LIBERO: a file per episode in ``env_records``, per inference in the other.

Inferences (``policy_records``) belong to an episode by the task, episode and step in their own
names, not by their order or number.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ..episodes import Episode, FailureDetectionError, aggregate_features
from .libero import STEP_DT, WAIT, Name, chunk_of_actions, episode_info, value_of
from .restricted import read_record

EPISODES, INFERENCES = "env_records", "policy_records"
FEATURES = "pre_velocity"
_INFERENCE = re.compile(r"step_\d+--.*?task_(\d+)--ep_(\d+)--t_(\d+)--meta\.pkl")
_STATE = 8


def read_openpi(source: Path, policy: str) -> Iterator[tuple[Episode, tuple[int, int, int]]]:
    """Episodes one after the other, each with the shape of its features.

    Args:
        source: Folder with ``env_records`` and ``policy_records``.
        policy: Id that the policy is given.

    Raises:
        FailureDetectionError: Naming the file that is missing or not as expected.
    """
    episodes = sorted((source / EPISODES).glob("*.pkl"), key=_key)
    if not episodes:
        raise FailureDetectionError(f"no episodes in {source / EPISODES}")
    inferences = _inferences(source / INFERENCES)
    for path in episodes:
        name = Name.of(path)
        yield _episode(path, name, inferences.get((name.task, name.episode), {}), policy)


def _key(path: Path) -> tuple[int, int]:
    name = Name.of(path)
    return name.task, name.episode


def _inferences(folder: Path) -> dict[tuple[int, int], dict[int, Path]]:
    """Files by task and episode, and then by step."""
    found: dict[tuple[int, int], dict[int, Path]] = defaultdict(dict)
    for path in sorted(folder.glob("*--meta.pkl")):
        matched = _INFERENCE.fullmatch(path.name)
        if matched is None:
            raise FailureDetectionError(
                f"{path.name} is not named step_<N>--...task_<T>--ep_<E>--t_<step>--meta.pkl"
            )
        task, episode, step = (int(number) for number in matched.groups())
        if step in found[task, episode]:
            raise FailureDetectionError(
                f"{path.name} and {found[task, episode][step].name} are of the same inference"
            )
        found[task, episode][step] = path
    return found


def _episode(
    path: Path, name: Name, inferences: dict[int, Path], policy: str
) -> tuple[Episode, tuple[int, int, int]]:
    record = read_record(path)
    suite = str(value_of(record, path, "task_suite_name"))
    expected = int(value_of(record, path, "model_infer_times"))
    if len(inferences) != expected:
        raise FailureDetectionError(
            f"{path.name} had {expected} inferences; there are records of {len(inferences)}"
        )
    done = [bool(step) for step in value_of(record, path, "step_done")]
    success = bool(value_of(record, path, "episode_success"))
    if success != name.success or (success and True not in done):
        raise FailureDetectionError(
            f"{path.name}: episode_success is {success}, its name says {name.success} and "
            f"step_done has {done.count(True)} steps that are done"
        )
    success_time = (done.index(True) + 1) * STEP_DT if success else None
    wait = int(record.get("num_steps_wait", WAIT))
    times, features, chunks, states, samples = [], [], [], [], []
    shape = (0, 0, 0)
    for step in sorted(inferences):
        time = (step - wait) * STEP_DT
        if success_time is not None and time >= success_time:
            break  # what comes after is told by its idling
        file = inferences[step]
        values = read_record(file)
        raw = np.asarray(value_of(values, file, FEATURES))
        shape = (int(raw.shape[0]), int(raw.shape[1]), int(raw.shape[2]))
        features.append(aggregate_features(raw))
        state = np.asarray(value_of(values, file, "observation/state"), float)
        if state.shape != (_STATE,):
            raise FailureDetectionError(f"{file}: the state is {state.shape}; need ({_STATE},)")
        actions = np.asarray(value_of(values, file, "actions"), float)
        drawn = actions if actions.ndim == 3 else actions[None]
        turn = Rotation.from_rotvec(state[3:6])
        several = np.stack([chunk_of_actions(one, state[:3], turn) for one in drawn])
        times.append(time)
        chunks.append(several[0])
        states.append(state.astype(np.float32))
        samples.append(several)
    if not times:
        raise FailureDetectionError(f"{path.name} has no inference before its success")
    info = episode_info(
        name,
        policy,
        suite,
        str(value_of(record, path, "task_description")),
        inferences=len(times),
        success_time=success_time,
        execute_steps=int(value_of(record, path, "replan_steps")),
    )
    found = Episode(
        info=info,
        times=np.array(times),
        features=np.stack(features).astype(np.float16),
        chunks=np.stack(chunks),
        states=np.stack(states),
        samples=np.stack(samples) if len(samples[0]) > 1 else None,
    )
    return found, shape
