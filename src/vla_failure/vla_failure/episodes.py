# SPDX-License-Identifier: Apache-2.0
"""What is known of an episode: what the policy did at every inference, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from vla_policy.poses import pose_to_vector

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

# Features are kept as aggregates: first, last and mean over the flow steps, and of each of these
# first, last and mean over the horizon.
AGGREGATES = ("first", "last", "mean")
# Position, the first two columns of the rotation matrix, opening of the gripper.
CHUNK_WIDTH = 10


class FailureDetectionError(ValueError):
    """Data, settings or a calibration are not what they should be."""


class Outcome(StrEnum):
    """How an episode ended.

    ``FAILURE``: from some inference on even the expert could not succeed any more. ``TIMEOUT``: the
    policy did not succeed in its time, though the expert still could have.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Start:
    """What is known when an episode begins, and nothing of how it will end.

    Attributes:
        episode_id: Unique among all rollouts.
        task: Name of the task.
        perturbation: What is disturbed; for controls only, a running robot does not know it.
        step_dt: Time between the steps of a chunk, s.
        execute_steps: Steps of a chunk from one observation to the next.
        policy_id: Of the policy; for controls only.
        severity: Of the perturbation; for controls only.
    """

    episode_id: str
    task: str
    perturbation: str
    step_dt: float
    execute_steps: int
    policy_id: str = ""
    severity: float = 0.0


@dataclass(frozen=True)
class EpisodeInfo:
    """One row of the table of episodes.

    Attributes:
        episode_id: Unique among all rollouts.
        policy_id: Hash of the policy's weights, configuration and statistics.
        task: Name of the task.
        suite: Name of the suite that the scene was drawn for.
        perturbation: What was disturbed; ``none`` for nothing.
        severity: How much, 0 to 1.
        seed: Of scene, noise, perturbation and severity.
        instruction: What the policy was told.
        time_limit: Simulated time that the episode might take, s.
        step_dt: Time between the steps of a chunk, s.
        execute_steps: Steps of a chunk from one observation to the next.
        outcome: How it ended.
        success_time: When it succeeded, s since the start; None if it did not.
        onset_step: First inference from which the expert could not succeed any more; of failures.
    """

    episode_id: str
    policy_id: str
    task: str
    suite: str
    perturbation: str
    severity: float
    seed: int
    instruction: str
    time_limit: float
    step_dt: float
    execute_steps: int
    outcome: Outcome
    success_time: float | None
    onset_step: int | None

    def __post_init__(self) -> None:
        if (self.outcome is Outcome.SUCCESS) != (self.success_time is not None):
            raise FailureDetectionError(
                f"{self.episode_id} is a {self.outcome} with success_time {self.success_time}; "
                "a success has one and nothing else does"
            )
        if (self.outcome is Outcome.FAILURE) != (self.onset_step is not None):
            raise FailureDetectionError(
                f"{self.episode_id} is a {self.outcome} with onset_step {self.onset_step}; "
                "a failure has one and nothing else does"
            )
        if not 0.0 <= self.severity <= 1.0:
            raise FailureDetectionError(
                f"{self.episode_id} has severity {self.severity}; valid: 0 to 1"
            )

    @property
    def success(self) -> bool:
        """Whether it succeeded."""
        return self.outcome is Outcome.SUCCESS

    @property
    def start(self) -> Start:
        """What was known when it began."""
        return Start(
            self.episode_id,
            self.task,
            self.perturbation,
            self.step_dt,
            self.execute_steps,
            self.policy_id,
            self.severity,
        )


@dataclass(frozen=True)
class Step:
    """What a detector sees of one inference.

    Attributes:
        time: Of the observation, s since the start of the episode.
        features: (3, 3, W) ``pre_velocity``, aggregated over flow steps and horizon as
            ``AGGREGATES`` says.
        chunk: (H, 10) the chunk to be executed: position (m), first two columns of the rotation
            matrix, opening of the gripper (m), in the base frame.
        state: (S,) the robot's own state as the policy encodes it.
        samples: (N, H, 10) chunks of the same inference, ``chunk`` first; None if there is no
            other.
    """

    time: float
    features: Float32Array
    chunk: Float32Array
    state: Float32Array
    samples: Float32Array | None = None


@dataclass(frozen=True)
class Episode:
    """An episode with everything that was recorded of its T inferences.

    Attributes:
        info: Its row of the table.
        times: (T,) of the observations, s since the start.
        features: (T, 3, 3, W), float16.
        chunks: (T, H, 10).
        states: (T, S).
        samples: (T, N, H, 10); None if only one chunk was sampled per inference.
    """

    info: EpisodeInfo
    times: FloatArray
    features: npt.NDArray[np.float16]
    chunks: Float32Array
    states: Float32Array
    samples: Float32Array | None = None

    def __post_init__(self) -> None:
        steps, name = len(self.times), self.info.episode_id
        arrays = self.arrays()
        for key, array in arrays.items():
            if len(array) != steps:
                raise FailureDetectionError(
                    f"{name}: {key} has {len(array)} steps and times has {steps}"
                )
            if not np.all(np.isfinite(array)):
                raise FailureDetectionError(f"{name}: {key} is not finite")
        if steps == 0:
            raise FailureDetectionError(f"{name} has no inference")
        if self.features.shape[1:-1] != (3, 3) or self.features.ndim != 4:
            raise FailureDetectionError(
                f"{name}: features are {self.features.shape}; need (T, 3, 3, width)"
            )
        if self.chunks.ndim != 3 or self.chunks.shape[-1] != CHUNK_WIDTH:
            raise FailureDetectionError(
                f"{name}: chunks are {self.chunks.shape}; need (T, H, {CHUNK_WIDTH})"
            )
        if self.samples is not None and self.samples.shape[2:] != self.chunks.shape[1:]:
            raise FailureDetectionError(
                f"{name}: samples are {self.samples.shape} and chunks {self.chunks.shape}"
            )
        if np.any(np.diff(self.times) <= 0.0):
            raise FailureDetectionError(f"{name}: times do not rise")
        onset = self.info.onset_step
        if onset is not None and not 0 <= onset <= steps:
            raise FailureDetectionError(f"{name}: onset_step is {onset}; valid: 0 to {steps}")

    def __len__(self) -> int:
        return len(self.times)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What was recorded, by name."""
        found: dict[str, npt.NDArray[np.generic]] = {
            "times": self.times,
            "features": self.features,
            "chunks": self.chunks,
            "states": self.states,
        }
        return found if self.samples is None else {**found, "samples": self.samples}

    @property
    def end_time(self) -> float:
        """When it succeeded, or its time was over, s since the start."""
        success_time = self.info.success_time
        return self.info.time_limit if success_time is None else success_time

    @property
    def onset_time(self) -> float | None:
        """When the failure was certain, s since the start; the end if no inference came after."""
        onset = self.info.onset_step
        if onset is None:
            return None
        return float(self.times[onset]) if onset < len(self) else self.end_time

    def steps(self) -> Iterator[Step]:
        """What a detector sees, inference by inference."""
        for index in range(len(self)):
            yield Step(
                time=float(self.times[index]),
                features=self.features[index].astype(np.float32),
                chunk=self.chunks[index],
                state=self.states[index],
                samples=None if self.samples is None else self.samples[index],
            )


def aggregate_features(features: npt.NDArray[np.floating]) -> Float32Array:
    """First, last and mean over flow steps and over the horizon, rounded to half precision.

    As they are kept on disk: a running detector sees the very numbers that it was fitted on. What
    does not fit becomes infinite, and is refused wherever it goes.

    Args:
        features: (flow steps, horizon, W) of one inference.

    Returns:
        (3, 3, W), in the order of ``AGGREGATES``, the flow's first.

    Raises:
        FailureDetectionError: If they have another shape.
    """
    if features.ndim != 3 or 0 in features.shape:
        raise FailureDetectionError(
            f"features are {features.shape}; need (flow steps, horizon, width)"
        )
    values = features.astype(np.float32)
    flow = np.stack([values[0], values[-1], values.mean(axis=0)])
    aggregates = np.stack([flow[:, 0], flow[:, -1], flow.mean(axis=1)], axis=1)
    with np.errstate(over="ignore"):
        return aggregates.astype(np.float16).astype(np.float32)


def chunk_array(poses: FloatArray, openings: FloatArray) -> Float32Array:
    """A chunk as (H, 10) from poses (H, 4, 4) and openings (H,); see ``Step``."""
    return np.concatenate(
        [pose_to_vector(poses), np.asarray(openings)[:, None]], axis=1, dtype=np.float32
    )
