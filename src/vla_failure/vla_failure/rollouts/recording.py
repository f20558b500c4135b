# SPDX-License-Identifier: Apache-2.0
"""One rollout: a policy runs an episode, and what it did at every inference is kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla_policy.evaluation.rollout import TIME_LIMITS, EpisodeResult, Inference, run_episode
from vla_policy.interface import ActItem, BatchPolicy, Policy
from vla_policy.state_encoding import encode_state
from vla_policy.types import RobotState
from vla_sim.simulation import SimSnapshot, Simulation

from ..episodes import (
    Episode,
    EpisodeInfo,
    FailureDetectionError,
    Float32Array,
    Outcome,
    aggregate_features,
    chunk_array,
)
from .onset import find_onset
from .perturbations import Perturbation

# Seeds of further samples are so far apart that none is the seed of another scene's.
_SAMPLE_SPAN = 10_000_000

FindOnset = Callable[[Simulation, list[SimSnapshot]], int | None]


def record_episode(
    policy: Policy,
    sim: Simulation,
    perturbation: Perturbation,
    *,
    samples: int = 1,
    onset: FindOnset = find_onset,
) -> Episode:
    """Runs a policy on the scene that ``sim`` has just been reset to, perturbed.

    Args:
        policy: With features.
        sim: In lockstep; left in an arbitrary state.
        perturbation: Of the scene, the images or the chunks.
        samples: Chunks per inference; the first is the one that is executed.
        onset: Finds when an episode was lost.

    Raises:
        FailureDetectionError: If the policy cannot give several samples, or its features are not
            finite in half precision.
    """
    if samples > 1 and not isinstance(policy, BatchPolicy):
        raise FailureDetectionError(
            f"{type(policy).__name__} gives one sample per inference; {samples} were asked for"
        )
    sim.reset_to(perturbation.scene(sim.instance))
    recorder = _Recorder(policy, sim, samples)
    result = run_episode(
        policy,
        sim,
        time_limit_s=TIME_LIMITS[sim.task],
        observation_filter=perturbation.observation_filter(),
        chunk_filter=perturbation.chunk_filter(),
        observer=recorder,
    )
    lost = None if result.success else onset(sim, [*recorder.snapshots, sim.snapshot()])
    return recorder.episode(result, perturbation, lost)


class _Recorder:
    """Notes every inference of an episode."""

    def __init__(self, policy: Policy, sim: Simulation, samples: int) -> None:
        self._policy = policy
        self._sim = sim
        self._count = samples
        self._begin_ns = sim.time_ns
        self.snapshots: list[SimSnapshot] = []
        self._times: list[float] = []
        self._features: list[Float32Array] = []
        self._chunks: list[Float32Array] = []
        self._states: list[Float32Array] = []
        self._samples: list[Float32Array] = []

    def __call__(self, inference: Inference) -> None:
        chunk, state = inference.chunk, RobotState.of(inference.observation)
        self.snapshots.append(self._sim.snapshot())
        self._times.append((inference.observation.stamp_ns - self._begin_ns) * 1e-9)
        self._features.append(aggregate_features(chunk.features))
        self._chunks.append(chunk_array(chunk.poses_tool_in_base, chunk.gripper_opening))
        self._states.append(encode_state(state).astype(np.float32))
        if self._count > 1 and isinstance(self._policy, BatchPolicy):
            others = self._policy.act_batch(
                [
                    ActItem(inference.context, state, self._sim.seed + index * _SAMPLE_SPAN)
                    for index in range(1, self._count)
                ]
            )
            more = [chunk_array(c.poses_tool_in_base, c.gripper_opening) for c in others]
            self._samples.append(np.stack([self._chunks[-1], *more]))

    def episode(
        self, result: EpisodeResult, perturbation: Perturbation, lost: int | None
    ) -> Episode:
        """What was noted, with how the episode ended."""
        if result.success:
            outcome = Outcome.SUCCESS
        else:
            outcome = Outcome.TIMEOUT if lost is None else Outcome.FAILURE
        spec = self._policy.spec
        info = EpisodeInfo(
            episode_id=f"{spec.policy_id[:8]}-{result.suite}-{result.task}-{result.seed}",
            policy_id=spec.policy_id,
            task=result.task,
            suite=result.suite,
            perturbation=perturbation.kind,
            severity=perturbation.severity,
            seed=result.seed,
            instruction=result.instruction,
            time_limit=TIME_LIMITS[result.task],
            step_dt=spec.step_dt,
            execute_steps=spec.execute_steps,
            outcome=outcome,
            success_time=result.time_s if result.success else None,
            onset_step=lost,
        )
        return Episode(
            info=info,
            times=np.array(self._times),
            features=np.stack(self._features).astype(np.float16),
            chunks=np.stack(self._chunks),
            states=np.stack(self._states),
            samples=np.stack(self._samples) if self._samples else None,
        )
