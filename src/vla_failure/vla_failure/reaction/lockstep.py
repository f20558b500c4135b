# SPDX-License-Identifier: Apache-2.0
"""The reaction in lockstep simulation: what a running robot does, without its nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import vla_control
from vla_policy.evaluation.rollout import Course, Inference
from vla_policy.state_encoding import encode_state
from vla_policy.types import RobotState
from vla_sim.simulation import Simulation

from ..decision import Decision
from ..episodes import Start, Step, aggregate_features, chunk_array
from ..monitor import Monitor
from .reaction import STEP_DT, ArmState, Phase, Reaction, ReactionConfig

_PERIOD = 0.02  # s, between looks at the arm, as often as its state is published
_AT_REST = 0.01  # rad/s
_BOOT = 1


@dataclass(frozen=True)
class Verdict:
    """On one inference; see ``monitor.Status``."""

    decision: Decision
    reason: str
    margin: float


# Judges an inference; the second argument is its time since the start of the episode, s.
Judge = Callable[[Inference, float], Verdict]


@dataclass
class Report:
    """What was decided in an episode.

    Attributes:
        judged: Inferences that were judged.
        confident: Of these, well below the band.
        alarms: Of these, STOP, BACKTRACK, ASK_HELP or ABSTAIN.
        retries: How often the arm went back.
        retraced_m: Way back in all, m.
        ended: Why the episode was ended; empty = it was not.
        abstained: Whether it was ended because there was no judging.
    """

    judged: int = 0
    confident: int = 0
    alarms: int = 0
    retries: int = 0
    retraced_m: float = 0.0
    ended: str = ""
    abstained: bool = False


class LockstepWatch:
    """See ``evaluation.rollout.Watch``. Its verdict is there when the chunk is.

    Args:
        sim: In lockstep, just reset.
        judge: Judges inferences.
        went_back: Called when the arm has gone back.
        config: Of the reaction.
    """

    def __init__(
        self,
        sim: Simulation,
        judge: Judge,
        went_back: Callable[[], None],
        config: ReactionConfig | None = None,
    ) -> None:
        self.epoch = (_BOOT, 1)
        self.report = Report()
        self._sim = sim
        self._judge = judge
        self._went_back = went_back
        self._config = config or ReactionConfig()
        self._reaction = Reaction(self._config)
        self._begin_ns = sim.time_ns
        self._sequence = 0
        self._reaction.begin()
        self._hand_over()
        self._look()

    def advance(self, duration_s: float) -> None:
        """Runs the simulation, and looks at the arm meanwhile."""
        remaining = round(duration_s / self._sim.dt)
        stride = round(_PERIOD / self._sim.dt)
        while remaining > 0:
            count = min(stride, remaining)
            self._sim.advance(count * self._sim.dt)
            remaining -= count
            self._look()

    def arrived(self, inference: Inference, end_ns: int) -> Course:
        """See ``Watch``."""
        report, reaction = self.report, self._reaction
        observed_ns = inference.observation.stamp_ns
        found = self._judge(inference, (observed_ns - self._begin_ns) * 1e-9)
        report.judged += 1
        report.confident += found.margin >= self._config.confident
        reaction.on_verdict(found.decision, found.reason, found.margin, observed_ns)
        if reaction.phase is Phase.FOLLOWING:
            return Course.FOLLOWED
        report.alarms += 1
        self._hand_over()
        if self._go_back(end_ns) is Phase.FOLLOWING:
            report.retries += 1
            report.retraced_m += reaction.retraced_m
            self._went_back()
            self._hand_over()
            return Course.DISCARDED
        report.ended = reaction.reason or "its time was over"
        report.abstained = found.decision is Decision.ABSTAIN
        return Course.ENDED

    def _go_back(self, end_ns: int) -> Phase:
        """Until the arm has gone back, or does not, or the time is over. Returns where it ended."""
        reaction = self._reaction
        while reaction.phase in (Phase.BRAKING, Phase.RETRACING) and self._sim.time_ns < end_ns:
            self._push()
            self.advance(min(_PERIOD, (end_ns - self._sim.time_ns) * 1e-9))
        return reaction.phase

    def _hand_over(self) -> None:
        """A new grant: the arm brakes, and what was pushed before no longer counts."""
        self.epoch = (_BOOT, self.epoch[1] + 1)
        self._sim.controller.heartbeat(*self.epoch, self._sim.time_ns)

    def _look(self) -> None:
        self._reaction.on_arm(arm_state(self._sim))

    def _push(self) -> None:
        part = self._reaction.chunk(self._sim.time_ns)
        if part is None:
            return
        self._sequence += 1
        robot = self._sim.robot
        self._sim.push_chunk(
            vla_control.Chunk(
                stamp_ns=part.stamp_ns,
                step_dt=STEP_DT,
                base_frame=robot.base_frame,
                tool_frame=robot.tool_frame,
                poses=part.poses,
                boot_id=self.epoch[0],
                grant=self.epoch[1],
                sequence=self._sequence,
            )
        )


def arm_state(sim: Simulation) -> ArmState:
    """What the reaction wants to know of a simulated arm."""
    state = sim.controller.state()
    _, dq = sim.joints()
    return ArmState(
        time_ns=sim.time_ns,
        pose=np.asarray(state.pose_tool_in_base),
        opening=float(state.gripper_opening_command) if state.gripper_commanded else None,
        at_rest=state.phase == vla_control.Phase.HOLDING and float(np.abs(dq).max()) < _AT_REST,
        in_contact=bool(state.in_contact),
        feels=bool(state.compliant),
    )


def step_of(inference: Inference, time_s: float) -> Step:
    """What a detector sees of an inference; as it is recorded in rollouts."""
    chunk = inference.chunk
    return Step(
        time=time_s,
        features=aggregate_features(chunk.features),
        chunk=chunk_array(chunk.poses_tool_in_base, chunk.gripper_opening),
        state=encode_state(RobotState.of(inference.observation)).astype(np.float32),
    )


def monitor_judge(monitor: Monitor, start: Start, latency_s: float) -> Judge:
    """Judges by a monitor, for an episode that begins now.

    Args:
        monitor: Bound to what runs; what it has latched is released.
        start: What is known of the episode.
        latency_s: From an observation to its chunk: the age of what is judged.
    """
    monitor.start(start)
    monitor.reset()

    def judge(inference: Inference, time_s: float) -> Verdict:
        status = monitor.judge(step_of(inference, time_s), latency_s)
        return Verdict(status.decision, status.reason, status.margin)

    return judge
