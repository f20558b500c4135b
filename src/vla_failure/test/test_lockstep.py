# SPDX-License-Identifier: Apache-2.0
"""The reaction with the real controller in simulation, under a scripted policy and judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from vla_failure.comparison import Chances, RandomAlarms, _chances
from vla_failure.decision import Decision
from vla_failure.reaction.lockstep import LockstepWatch, Report, Verdict
from vla_policy.evaluation.evaluate import LOCKSTEP_OVERRIDES
from vla_policy.evaluation.rollout import EpisodeResult, Inference, run_episode
from vla_policy.interface import Context, Policy
from vla_policy.spec import PolicySpec
from vla_policy.types import ActionChunk, ObservationLike, RobotState
from vla_sim import seeds
from vla_sim.simulation import Simulation

SEED = seeds.range_of("rollouts")[0]
HORIZON = 16
SPEC = PolicySpec(
    cameras=(),
    image_size=96,
    joint_names=tuple(f"panda_joint{i}" for i in range(1, 8)),
    state_names=(),
    horizon=HORIZON,
    step_dt=0.05,
    execute_steps=8,
    feature_name="none",
    feature_shape=(1, HORIZON, 1),
    latency_s=0.1,
    robot="panda",
)


class Straight(Policy):
    """Moves the tool straight on, from wherever it is."""

    spec = SPEC

    def __init__(self, velocity: tuple[float, float, float]) -> None:
        self._velocity = np.array(velocity)
        self._count = 0

    def reset(self, seed: int = 0) -> None:
        self._count = 0

    def encode(self, observation: ObservationLike) -> Context:
        return Context(observation.stamp_ns, observation.instruction, self._count, None)

    def act(self, context: Context, state: RobotState, guidance: object = None) -> ActionChunk:
        self._count += 1
        poses = np.repeat(state.pose_tool_in_base[None], HORIZON, axis=0)
        poses[:, :3, 3] += 0.05 * np.arange(HORIZON)[:, None] * self._velocity
        return ActionChunk(
            stamp_ns=state.stamp_ns,
            step_dt=0.05,
            commanded=poses,
            gripper_opening=np.full(HORIZON, 0.08),
            features=np.zeros((1, HORIZON, 1), np.float32),
            inference_id=self._count,
            policy_id="straight",
        )


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulation]:
    made = Simulation("panda", "touch", SEED, cameras=(), controller_overrides=LOCKSTEP_OVERRIDES)
    yield made
    made.close()


SIDEWAYS, DOWN = (0.0, 0.06, 0.0), (0.0, 0.0, -0.12)
Script = Callable[[int], Verdict]


class Run:
    """One episode under a script, and where the tool was at every inference."""

    def __init__(
        self, sim: Simulation, script: Script, velocity: tuple[float, float, float] = SIDEWAYS
    ) -> None:
        sim.reset("touch", SEED, suite="basic")
        self.tools: list[np.ndarray] = []
        self.went_back = 0

        def judge(inference: Inference, time_s: float) -> Verdict:
            self.tools.append(inference.observation.pose_tool_in_base[:3, 3])
            return script(len(self.tools))

        def count() -> None:
            self.went_back += 1

        watch = LockstepWatch(sim, judge, count)
        self.result: EpisodeResult = run_episode(
            Straight(velocity), sim, time_limit_s=8.0, watch=watch
        )
        self.report: Report = watch.report


def says(decision: Decision, at: int, confident_at: int = 0) -> Script:
    """One verdict at an inference, fine before and after."""

    def script(number: int) -> Verdict:
        if number == at:
            return Verdict(decision, "it fails", -1.0)
        return Verdict(Decision.OK, "", 2.0 if number == confident_at else 0.2)

    return script


def test_watching_changes_nothing(sim: Simulation) -> None:
    sim.reset("touch", SEED, suite="basic")
    alone = run_episode(Straight(SIDEWAYS), sim, time_limit_s=8.0)
    run = Run(sim, says(Decision.OK, at=1))
    assert run.result == alone, "to the last bit of the final state"
    assert (run.report.judged, run.report.alarms) == (alone.inferences, 0)


def test_the_arm_goes_back_through_the_controller_and_the_policy_goes_on(sim: Simulation) -> None:
    run = Run(sim, says(Decision.BACKTRACK, at=8, confident_at=3))
    assert (run.went_back, run.report.retries, run.report.ended) == (1, 1, "")
    confident, alarmed, after = run.tools[2], run.tools[7], run.tools[8]
    assert np.linalg.norm(alarmed - confident) > 0.08, "the positive control"
    assert np.linalg.norm(after - confident) < 0.006
    assert run.report.retraced_m == pytest.approx(np.linalg.norm(alarmed - confident), abs=0.03)
    assert run.result.rejected == 0
    assert np.linalg.norm(run.tools[-1] - after) > 0.05, "the policy goes on"
    assert run.result.peak_force_n < 1.0


def test_an_alarm_before_it_moves_costs_a_retry_and_not_the_episode(sim: Simulation) -> None:
    run = Run(sim, says(Decision.BACKTRACK, at=1))
    assert (run.went_back, run.report.retries, run.report.ended) == (1, 1, "")
    assert run.report.retraced_m == 0.0
    assert np.linalg.norm(run.tools[1] - run.tools[0]) < 1e-3, "observed anew where it was"
    assert np.linalg.norm(run.tools[-1] - run.tools[0]) > 0.05, "the policy goes on"


@pytest.mark.parametrize("decision", [Decision.STOP, Decision.ASK_HELP, Decision.ABSTAIN])
def test_everything_else_holds_the_arm(sim: Simulation, decision: Decision) -> None:
    run = Run(sim, says(decision, at=5))
    assert len(run.tools) == 5
    assert run.report.ended == "it fails"
    assert run.report.abstained == (decision is Decision.ABSTAIN)
    assert not run.result.success
    sim.advance(1.0)
    here = sim.observe_pose()[:3, 3]
    sim.advance(0.5)
    assert np.linalg.norm(sim.observe_pose()[:3, 3] - here) < 1e-3, "at rest"
    braking = 0.1 * 0.06 + 0.06**2  # what it moves until the verdict, and generously until rest
    assert np.linalg.norm(here - run.tools[-1]) < braking + 0.01


def test_an_arm_that_presses_on_the_table_does_not_go_back(sim: Simulation) -> None:
    run = Run(sim, says(Decision.BACKTRACK, at=14), DOWN)
    assert "touches something" in run.report.ended
    assert (run.report.retries, run.went_back) == (0, 0)
    free = Run(sim, says(Decision.BACKTRACK, at=3), DOWN)
    assert free.report.retries == 1, "the positive control"


def test_random_alarms_are_as_frequent_as_the_detectors() -> None:
    chances = _chances([Report(judged=10, alarms=1, confident=5), Report(judged=10, confident=3)])
    assert chances == Chances(0.05, 0.4)
    counts = []
    for seed in range(400):
        control = RandomAlarms(chances, retries=1, seed=seed)
        found = [control.judge(None, 0.0) for _ in range(50)]  # type: ignore[arg-type]
        counts.append(sum(one.decision is not Decision.OK for one in found))
    assert np.mean(counts) == pytest.approx(2.5, abs=0.3)
    control = RandomAlarms(Chances(1.0, 0.0), retries=1, seed=3)
    assert control.judge(None, 0.0).decision is Decision.BACKTRACK  # type: ignore[arg-type]
    control.went_back()
    assert control.judge(None, 0.0).decision is Decision.ASK_HELP  # type: ignore[arg-type]
