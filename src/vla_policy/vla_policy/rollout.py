# SPDX-License-Identifier: Apache-2.0
"""One episode of a policy in lockstep simulation, with an explicit inference latency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vla_sim.simulation import SimObservation, Simulation

from .control import to_control_chunk
from .policy import Policy
from .types import RobotState

# s of simulated time; about twice what the experts need.
TIME_LIMITS = {"touch": 8.0, "push": 14.0, "pick": 12.0, "place": 18.0}

# Changes what the policy sees, for controls such as black images.
ObservationFilter = Callable[[SimObservation], SimObservation]


@dataclass(frozen=True)
class EpisodeResult:
    """How an episode ended.

    Attributes:
        task: Name of the task.
        seed: Seed of the scene.
        instruction: What the policy was told.
        success: Whether the task was fulfilled within its time limit.
        time_s: Simulated time to success, or the time limit.
        named_object: Colour of the named cube.
        lifted_object: First cube that rose more than 3 cm; None for none.
        touched_object: First cube a finger touched; None for none.
        inferences: Chunks the policy made.
        rejected: Chunks the controller rejected.
        digest: Hash of the final physical state, to compare runs.
    """

    task: str
    seed: int
    instruction: str
    success: bool
    time_s: float
    named_object: str
    lifted_object: str | None
    touched_object: str | None
    inferences: int
    rejected: int
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for JSON."""
        return dict(self.__dict__)


def run_episode(
    policy: Policy,
    sim: Simulation,
    *,
    time_limit_s: float,
    observation_filter: ObservationFilter | None = None,
) -> EpisodeResult:
    """Runs a policy on the scene that ``sim`` has just been reset to.

    At t0 the policy observes; its chunk reaches the controller at t0 + latency, where the latency
    is a constant of the checkpoint, so the result does not depend on this machine's speed. The
    next inference starts at t0 + execute_steps · step_dt.

    Args:
        policy: Its noise restarts from the scene's seed.
        sim: In lockstep.
        time_limit_s: Simulated time after which the episode has failed.
        observation_filter: Applied to every observation.

    Raises:
        ValueError: If the policy's latency is not below its inference period.
    """
    spec = policy.spec
    period = spec.execute_steps * spec.step_dt
    if not spec.latency_s < period:
        raise ValueError(f"latency {spec.latency_s} s must be below the period {period} s")
    policy.reset(sim.seed)
    robot = sim.robot
    rejected = inferences = 0
    judgement = sim.judge()
    for _ in range(round(time_limit_s / period)):
        observation = sim.observe()
        if observation_filter is not None:
            observation = observation_filter(observation)
        chunk = policy.act(policy.encode(observation), RobotState.of(observation))
        sim.advance(spec.latency_s)
        reason = sim.push_chunk(
            to_control_chunk(chunk, robot.base_frame, robot.tool_frame, sequence=inferences)
        )
        inferences += 1
        rejected += int(reason.name != "NONE")
        sim.advance(period - spec.latency_s)
        judgement = sim.judge()
        if judgement.success:
            break
    return EpisodeResult(
        task=sim.task,
        seed=sim.seed,
        instruction=sim.instruction,
        success=bool(judgement.success),
        time_s=time_limit_s if judgement.time_to_success is None else judgement.time_to_success,
        named_object=judgement.named_object,
        lifted_object=judgement.lifted_object,
        touched_object=judgement.touched_object,
        inferences=inferences,
        rejected=rejected,
        digest=_digest(sim),
    )


def black_images(observation: SimObservation) -> SimObservation:
    """The same observation with the lights out: a policy that succeeds on it does not look."""
    images = {name: np.zeros_like(image) for name, image in observation.images.items()}
    return replace(observation, images=images)


def _digest(sim: Simulation) -> str:
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(sim.qpos()).tobytes()).hexdigest()[:16]
