# SPDX-License-Identifier: Apache-2.0
"""One episode of a policy in lockstep simulation, with an explicit inference latency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vla_sim.simulation import SimObservation, Simulation
from vla_sim.tasks import TASKS

from .control import to_control_chunk
from .interface import Policy
from .schedules import make_schedule
from .types import RobotState

# s of simulated time per task.
TIME_LIMITS = {name: task.time_limit for name, task in TASKS.items()}

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
        named_object: Name of the object that the task is about.
        lifted_object: First object that rose more than 3 cm; None for none.
        touched_object: First object a finger touched; None for none.
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
    schedule: str = "asynchronous",
    delay_steps: int | None = None,
) -> EpisodeResult:
    """Runs a policy on the scene that ``sim`` has just been reset to.

    At t0 the policy observes; its chunk reaches the controller at t0 + latency, where the latency
    is a constant, so the result does not depend on this machine's speed. The schedule says when
    the next inference starts; by default at t0 + execute_steps · step_dt.

    Args:
        policy: Its noise restarts from the scene's seed.
        sim: In lockstep.
        time_limit_s: Simulated time after which the episode has failed.
        observation_filter: Applied to every observation.
        schedule: Name in ``SCHEDULES``.
        delay_steps: Latency in steps of the chunk; None for the checkpoint's own.

    Raises:
        ValueError: If the policy's chunks are too short for the latency, or it cannot serve the
            schedule.
    """
    spec = policy.spec
    latency_s = spec.latency_s if delay_steps is None else delay_steps * spec.step_dt
    plan = make_schedule(schedule, policy, latency_s, sim.kinematics)
    policy.reset(sim.seed)
    robot = sim.robot
    rejected = inferences = 0
    judgement = sim.judge()
    end_ns = sim.time_ns + round(time_limit_s * 1e9)
    while sim.time_ns < end_ns:
        observation = sim.observe()
        if observation_filter is not None:
            observation = observation_filter(observation)
        chunk = plan.act(policy, policy.encode(observation), RobotState.of(observation))
        sim.advance(latency_s)
        delivered_ns = sim.time_ns
        chunk = plan.deliver(chunk, delivered_ns)
        plan.delay.measured((delivered_ns - observation.stamp_ns) * 1e-9)
        reason = sim.push_chunk(
            to_control_chunk(chunk, robot.base_frame, robot.tool_frame, sequence=inferences)
        )
        inferences += 1
        rejected += int(reason.name != "NONE")
        due_ns = min(plan.due_ns(observation.stamp_ns, delivered_ns), end_ns)
        sim.advance(max(0, due_ns - sim.time_ns) * 1e-9)
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
