# SPDX-License-Identifier: Apache-2.0
"""One episode of a policy in lockstep simulation, with an explicit inference latency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

import numpy as np

from vla_sim.simulation import SimObservation, Simulation
from vla_sim.tasks import TASKS

from ..control import to_control_chunk
from ..interface import Context, Policy
from ..schedules import make_schedule
from ..types import ActionChunk, RobotState

# s of simulated time per task.
TIME_LIMITS = {name: task.time_limit for name, task in TASKS.items()}

# Cycles of the controller after the arrival of a chunk in which its seam shows.
_SEAM_CYCLES = 2

# Changes what the policy sees, for controls such as black images.
ObservationFilter = Callable[[SimObservation], SimObservation]
# Changes what the controller gets.
ChunkFilter = Callable[[ActionChunk], ActionChunk]


@dataclass(frozen=True)
class Inference:
    """One inference of an episode.

    Attributes:
        observation: What the policy saw.
        context: What it encoded of that.
        chunk: What it made of it.
    """

    observation: SimObservation
    context: Context
    chunk: ActionChunk


# Called after every inference, with the simulation still at the time of the observation.
Observer = Callable[[Inference], None]


class Course(Enum):
    """What became of a chunk when it arrived."""

    FOLLOWED = "it is followed"
    DISCARDED = "the arm was moved otherwise meanwhile; the policy goes on from where it is"
    ENDED = "the episode is over: the arm holds"


class Watch(Protocol):
    """Watches an episode, and may take the arm from the policy between two chunks.

    Attributes:
        epoch: Boot id and grant under which chunks are pushed.
    """

    epoch: tuple[int, int]

    def advance(self, duration_s: float) -> None:
        """Runs the simulation."""
        ...

    def arrived(self, inference: Inference, end_ns: int) -> Course:
        """Says what becomes of a chunk that has arrived; may run the simulation up to the end."""
        ...


class _Unwatched:
    """Lets every chunk pass."""

    epoch = (0, 0)

    def __init__(self, sim: Simulation) -> None:
        self.advance = sim.advance

    def arrived(self, inference: Inference, end_ns: int) -> Course:
        del inference, end_ns
        return Course.FOLLOWED


@dataclass(frozen=True)
class EpisodeResult:
    """How an episode ended.

    Attributes:
        task: Name of the task.
        suite: Name of the suite that the scene was drawn for.
        seed: Seed of the scene.
        instruction: What the policy was told.
        success: Whether the task was fulfilled within its time limit.
        time_s: Simulated time to success, or the time limit.
        named_object: Name of the object that the task is about.
        lifted_object: First object that rose more than 3 cm; None for none.
        touched_object: First object a finger touched; None for none.
        approached_object: First object the tool came within 6 cm of; None for none.
        path_length_m: Way of the tool.
        peak_force_n: Largest force on the fingers, smoothed by 10 ms.
        seam_jerk: Largest jerk of the reference in the 2 ms after a chunk's arrival, m/s³.
        absent: Whether the named object was not there.
        dropped: Whether the object was taken out of the fingers once.
        retouched: Whether a finger touched it again after that.
        inferences: Chunks the policy made.
        rejected: Chunks the controller rejected.
        digest: Hash of the final physical state, to compare runs.
    """

    task: str
    suite: str
    seed: int
    instruction: str
    success: bool
    time_s: float
    named_object: str
    lifted_object: str | None
    touched_object: str | None
    approached_object: str | None
    path_length_m: float
    peak_force_n: float
    seam_jerk: float
    absent: bool
    dropped: bool
    retouched: bool
    inferences: int
    rejected: int
    digest: str

    @property
    def false_completion(self) -> bool:
        """Whether the policy went on without the object that it had lost."""
        return self.dropped and not self.retouched and not self.success

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for JSON."""
        return dict(self.__dict__)


def run_episode(
    policy: Policy,
    sim: Simulation,
    *,
    time_limit_s: float,
    observation_filter: ObservationFilter | None = None,
    chunk_filter: ChunkFilter | None = None,
    observer: Observer | None = None,
    schedule: str = "asynchronous",
    delay_steps: int | None = None,
    watch: Watch | None = None,
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
        chunk_filter: Applied to every chunk on its way to the controller.
        observer: Called with every inference.
        schedule: Name in ``SCHEDULES``.
        delay_steps: Latency in steps of the chunk; None for the checkpoint's own.
        watch: Asked about every chunk when it arrives; runs the simulation.

    Raises:
        ValueError: If the policy's chunks are too short for the latency, or it cannot serve the
            schedule.
    """
    spec = policy.spec
    latency_s = spec.latency_s if delay_steps is None else delay_steps * spec.step_dt
    plan = make_schedule(schedule, policy, latency_s, sim.kinematics)
    policy.reset(sim.seed)
    robot = sim.robot
    watch = watch or _Unwatched(sim)
    rejected = inferences = 0
    seam_jerk = 0.0
    judgement = sim.judge()
    end_ns = sim.time_ns + round(time_limit_s * 1e9)
    while sim.time_ns < end_ns:
        observation = sim.observe()
        if observation_filter is not None:
            observation = observation_filter(observation)
        context = policy.encode(observation)
        chunk = plan.act(policy, context, RobotState.of(observation))
        inference = Inference(observation, context, chunk)
        if observer is not None:
            observer(inference)
        watch.advance(latency_s)
        delivered_ns = sim.time_ns
        course = watch.arrived(inference, end_ns)
        if course is not Course.FOLLOWED:
            inferences += 1
            plan.reset()  # nothing goes on from it
            judgement = sim.judge()
            if course is Course.ENDED or judgement.success:
                break
            continue
        chunk = plan.deliver(chunk, delivered_ns)
        if chunk_filter is not None:
            chunk = chunk_filter(chunk)
        plan.delay.measured((delivered_ns - observation.stamp_ns) * 1e-9)
        reason = sim.push_chunk(
            to_control_chunk(
                chunk,
                robot.base_frame,
                robot.tool_frame,
                spec.joint_names,
                *watch.epoch,
                sequence=inferences,
            )
        )
        inferences += 1
        if reason.name == "NONE":
            seam_jerk = max(seam_jerk, _cross_seam(sim))
        else:
            rejected += 1
            plan.reset()  # the chunk is not followed: nothing goes on from it
        due_ns = min(plan.due_ns(observation.stamp_ns, delivered_ns), end_ns)
        watch.advance(max(0, due_ns - sim.time_ns) * 1e-9)
        judgement = sim.judge()
        if judgement.success:
            break
    return EpisodeResult(
        task=sim.task,
        suite=sim.instance.suite,
        seed=sim.seed,
        instruction=sim.instruction,
        success=bool(judgement.success),
        time_s=time_limit_s if judgement.time_to_success is None else judgement.time_to_success,
        named_object=judgement.named_object,
        lifted_object=judgement.lifted_object,
        touched_object=judgement.touched_object,
        approached_object=judgement.approached_object,
        path_length_m=judgement.path_length,
        peak_force_n=judgement.peak_force,
        seam_jerk=seam_jerk,
        absent=sim.instance.absent,
        dropped=judgement.dropped,
        retouched=judgement.retouched,
        inferences=inferences,
        rejected=rejected,
        digest=_digest(sim),
    )


def _cross_seam(sim: Simulation) -> float:
    """Runs the cycles after a chunk's arrival; returns the reference's largest jerk there, m/s³."""
    jerk = 0.0
    before = np.array(sim.controller.state().reference_acceleration_tool_in_base)[:3]
    for _ in range(_SEAM_CYCLES):
        sim.advance(sim.dt)
        after = np.array(sim.controller.state().reference_acceleration_tool_in_base)[:3]
        jerk = max(jerk, float(np.linalg.norm(after - before)) / sim.dt)
        before = after
    return jerk


def black_images(observation: SimObservation) -> SimObservation:
    """The same observation with the lights out: a policy that succeeds on it does not look."""
    images = {name: np.zeros_like(image) for name, image in observation.images.items()}
    return replace(observation, images=images)


def _digest(sim: Simulation) -> str:
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(sim.qpos()).tobytes()).hexdigest()[:16]
