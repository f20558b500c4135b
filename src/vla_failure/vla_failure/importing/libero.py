# SPDX-License-Identifier: Apache-2.0
"""What is the same for all policies on LIBERO: actions, times, tasks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from ..episodes import EpisodeInfo, FailureDetectionError, Float32Array, Outcome, chunk_array

# Environment steps per second, robosuite's default.
STEP_DT = 1.0 / 20.0
# Steps at the start in which nothing is commanded: objects fall to rest.
WAIT = 10
# Steps that an episode may take, per suite, as in the evaluation scripts of OpenVLA and openpi.
LIMITS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
ACTION_WIDTH = 7
# Of an action of one: robosuite's operational-space controller, m and rad.
_METRES, _RADIANS = 0.05, 0.5
# Between the fingers of the Panda when they are open, m.
_OPEN = 0.08
_EPISODE = re.compile(r"task(\d+)--ep(\d+)--succ(\d+)(?:--meta)?\.(?:pkl|csv)")


@dataclass(frozen=True)
class Name:
    """What the name of an episode's file says.

    Attributes:
        task: Number of the task.
        episode: Number of the episode, which is that of the scene.
        success: Whether it succeeded.
    """

    task: int
    episode: int
    success: bool

    @staticmethod
    def of(path: Path) -> Name:
        """Reads it.

        Raises:
            FailureDetectionError: If the name is of another form.
        """
        found = _EPISODE.fullmatch(path.name)
        if found is None:
            raise FailureDetectionError(
                f"{path.name} is not named task<T>--ep<E>--succ<0 or 1>, as an episode's file is"
            )
        return Name(int(found[1]), int(found[2]), bool(int(found[3])))


def chunk_of_actions(
    actions: npt.NDArray[np.floating], position: npt.NDArray[np.floating], rotation: Rotation
) -> Float32Array:
    """Where a chunk of relative actions leads, as (H, 10); see ``episodes.Step``.

    Args:
        actions: (H, 7): displacement and rotation vector in shares of what one step may do, and
            the gripper, −1 open, +1 closed.
        position: (3,) of the tool before, m.
        rotation: Of the tool before.

    Raises:
        FailureDetectionError: If they have another shape.
    """
    if actions.ndim != 2 or actions.shape[1] != ACTION_WIDTH:
        raise FailureDetectionError(f"actions are {actions.shape}; need (H, {ACTION_WIDTH})")
    poses = np.tile(np.eye(4), (len(actions), 1, 1))
    poses[:, :3, 3] = np.asarray(position) + _METRES * np.cumsum(actions[:, :3], axis=0)
    turned = rotation
    for step, turn in enumerate(_RADIANS * actions[:, 3:6]):
        turned = Rotation.from_rotvec(turn) * turned
        poses[step, :3, :3] = turned.as_matrix()
    openings = 0.5 * _OPEN * (1.0 - np.clip(actions[:, 6], -1.0, 1.0))
    return chunk_array(poses, openings)


def episode_info(
    name: Name,
    policy: str,
    suite: str,
    instruction: str,
    *,
    inferences: int,
    success_time: float | None,
    execute_steps: int,
) -> EpisodeInfo:
    """What is known of an episode.

    Args:
        name: Of its file.
        policy: Id of the policy.
        suite: Of tasks.
        instruction: What the robot was told.
        inferences: Number of them.
        success_time: s; None = it failed.
        execute_steps: Of a chunk.

    Raises:
        FailureDetectionError: If the suite is unknown.
    """
    success = success_time is not None
    return EpisodeInfo(
        episode_id=f"{policy}-{suite}-{name.task}-{name.episode}",
        policy_id=policy,
        task=f"{suite}-{name.task}",
        suite=suite,
        perturbation="none",
        severity=0.0,
        seed=name.episode,
        instruction=instruction,
        time_limit=time_limit(suite),
        step_dt=STEP_DT,
        execute_steps=execute_steps,
        outcome=Outcome.SUCCESS if success else Outcome.FAILURE,
        success_time=success_time,
        # Nobody knows when it was lost: not before the last inference.
        onset_step=None if success else inferences,
    )


def time_limit(suite: str) -> float:
    """Of an episode, s.

    Raises:
        FailureDetectionError: If the suite is unknown.
    """
    if suite not in LIMITS:
        raise FailureDetectionError(f"unknown suite {suite!r}; valid: {', '.join(LIMITS)}")
    return LIMITS[suite] * STEP_DT


def value_of(record: Mapping[str, Any], path: Path, *names: str) -> Any:
    """What a record holds under one of some names.

    Raises:
        FailureDetectionError: If there is none.
    """
    for name in names:
        if name in record:
            return record[name]
    raise FailureDetectionError(f"{path} lacks {names[0]!r}; it holds: {', '.join(record)}")
