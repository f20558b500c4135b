# SPDX-License-Identifier: Apache-2.0
"""What failure_node decides: every inference counts, and what cannot be judged is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from vla_failure.binding import Binding
from vla_failure.calibration import Band, Calibration, Shape, TaskBands
from vla_failure.decision import Decision
from vla_failure.detectors import Detector
from vla_failure.episodes import Start, Step
from vla_failure.monitor import Monitor, MonitorConfig
from vla_nodes.judging import Judging, Seen, Turn
from vla_nodes.supervision.types import SECOND, State

PERIOD = 4 * SECOND // 10
BINDING = Binding(
    policy_id="p",
    feature_name="pre_velocity",
    feature_shape=(5, 16, 8),
    sampler="euler",
    schedule="asynchronous",
    execute_steps=8,
    step_dt=0.05,
    latency_s=0.1,
    cameras=("scene", "wrist"),
    image_size=96,
    robot="panda",
)
BAND = Band(Shape(np.full(4, 2.0), np.ones(4)), 1.0, 0.15, 40)  # a score of 3 is at the band


@dataclass
class Given(Detector):
    """Scores what is written into the robot's state."""

    name: ClassVar[str] = "given"

    def fit(self, episodes: object, seed: int = 0) -> None:
        """Nothing is learned."""

    def start(self, start: Start) -> None:
        self.starts = [*getattr(self, "starts", []), start]

    def step(self, step: Step) -> float:
        self.times = [*getattr(self, "times", []), step.time]
        return float(step.state[0])


class World:
    """A supervisor, a policy and a clock under the test's control."""

    def __init__(self, config: MonitorConfig | None = None) -> None:
        self.detector = Given()
        calibration = Calibration(BINDING, "d1", TaskBands(BAND, {}), ())
        monitor = Monitor(self.detector, "d1", None, calibration, None, config)
        self.judging = Judging(monitor, feature_timeout=1.5, latency_tolerance=0.05)
        self.now_ns = 100 * SECOND
        self.turn = Turn(self.now_ns, 7, 1, State.IDLE, 0, "", "")
        self.sequence = 0

    def beat(self, **changes: Any) -> None:
        """A heartbeat; another state or instruction is another grant."""
        if changes:
            changes = {"grant": self.turn.grant + 1, **changes}
        self.turn = replace(self.turn, stamp_ns=self.now_ns, **changes)
        self.judging.on_turn(self.turn, self.now_ns)

    def begin(self, instruction_id: int = 1) -> None:
        """The policy is granted the arm."""
        self.beat()
        self.beat(
            state=State.AUTONOMOUS,
            instruction_id=instruction_id,
            episode_id=f"e{instruction_id}",
            task="pick",
        )

    def infer(self, score: float = 1.0, delay: float = 0.1, **changes: Any) -> Decision:
        """The next inference, of an observation from now, arrives after a delay."""
        self.sequence += 1
        seen = Seen(
            stamp_ns=self.now_ns,
            instruction_id=self.turn.instruction_id,
            sequence=self.sequence,
            inference_id=self.sequence + 5,
            running=BINDING,
            features=np.zeros((3, 3, 8), np.float32),
            chunk=np.zeros((16, 10), np.float32),
            state=np.array([score], np.float32),
        )
        self.judging.on_inference(replace(seen, **changes), self.now_ns + round(delay * SECOND))
        self.now_ns += PERIOD
        return self.said

    @property
    def said(self) -> Decision:
        return self.judging.status.decision

    @property
    def reason(self) -> str:
        return self.judging.status.reason


@pytest.fixture
def world() -> World:
    return World()


def test_an_episode_is_judged_from_its_grant_on(world: World) -> None:
    assert (world.said, world.reason) == (Decision.OK, "waits for the supervisor")
    world.beat()
    assert (world.said, world.reason) == (Decision.OK, "the policy does not own the arm")
    world.begin()
    assert "first inference" in world.reason
    scores = (1.0, 2.6, 3.1, 0.0)
    found = [world.infer(score) for score in scores]
    assert found == [Decision.OK, Decision.WARN, Decision.STOP, Decision.STOP]
    assert world.detector.times == pytest.approx([0.0, 0.4, 0.8])
    (start,) = world.detector.starts
    assert (start.episode_id, start.task, start.execute_steps) == ("e1", "pick", 8)
    assert world.judging.inference_id == 9
    assert world.judging.status.calibration_id == BINDING.calibration_id


def test_what_stands_stays_until_somebody_resets(world: World) -> None:
    world.begin()
    world.infer(9.0)
    world.beat(state=State.IDLE)
    assert world.said is Decision.STOP, "it does not matter who owns the arm"
    world.begin(2)
    assert world.said is Decision.STOP, "nor that another episode begins"
    world.judging.on_reset()
    assert world.said is Decision.OK
    assert world.infer(1.0) is Decision.OK


def test_gone_back_is_no_reset_but_a_retry() -> None:
    world = World(MonitorConfig(reaction=Decision.BACKTRACK, retries=1))
    world.begin()
    assert world.infer(9.0) is Decision.BACKTRACK
    world.beat(state=State.RECOVERING)
    assert world.said is Decision.BACKTRACK
    world.now_ns += 5 * SECOND
    world.judging.tick(world.now_ns)
    world.beat(state=State.AUTONOMOUS)
    assert world.said is Decision.OK
    assert world.infer(1.0) is Decision.OK
    assert world.judging.status.step == 1, "judged anew"
    assert world.infer(9.0) is Decision.ASK_HELP


Spoil = Callable[[World], object]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda w: w.judging.tick(w.now_ns + 2 * SECOND), "no inference for 1.5 s"),
        (lambda w: w.infer(delay=0.7), "0.700 s old"),
        (lambda w: w.infer(sequence=9), "inference 2 did not come, but 9"),
        (lambda w: w.infer(sequence=1), "inference 2 did not come, but 1"),
        (lambda w: w.infer(score=float("nan")), "state is not finite"),
        (lambda w: w.infer(features=np.full((3, 3, 8), np.inf)), "features is not finite"),
        (lambda w: w.infer(features=np.zeros((3, 3, 4))), "features are (3, 3, 4)"),
        (lambda w: w.judging.on_unreadable("3 values"), "cannot be read: 3 values"),
        (lambda w: w.infer(stamp_ns=w.now_ns - PERIOD), "not after the one before"),
        (lambda w: w.infer(running=replace(BINDING, policy_id="q")), "policy_id is q"),
        (lambda w: w.infer(running=replace(BINDING, latency_s=0.2)), "latency_s is 0.2"),
        (lambda w: w.infer(running=replace(BINDING, schedule="rtc")), "schedule is rtc"),
        (lambda w: w.infer(running=replace(BINDING, cameras=("scene",))), "cameras is"),
        (lambda w: w.infer(running=replace(BINDING, sampler="rtc")), "sampler is rtc"),
    ],
)
def test_what_cannot_be_judged_is_refused(world: World, spoil: Spoil, reason: str) -> None:
    world.begin()
    assert world.infer() is Decision.OK, "the positive control"
    spoil(world)
    assert world.said is Decision.ABSTAIN
    assert reason in world.reason
    assert world.infer(sequence=world.judging._sequence + 1) is Decision.ABSTAIN, "it stays"


def test_a_latency_within_the_tolerance_is_the_calibrated_one(world: World) -> None:
    world.begin()
    assert world.infer(running=replace(BINDING, latency_s=0.15)) is Decision.OK
    assert world.infer(running=replace(BINDING, latency_s=0.05)) is Decision.OK


def test_a_clock_that_is_a_little_behind_does_not_matter(world: World) -> None:
    world.begin()
    assert world.infer(delay=-0.04) is Decision.OK
    assert world.judging.status.step == 1


def test_an_inference_that_comes_before_its_time_is_judged_when_that_has_come(
    world: World,
) -> None:
    world.begin()
    began_ns = world.now_ns
    world.infer(1.0, delay=-2.0)
    assert world.infer(9.0, delay=-2.4) is Decision.OK
    assert world.judging.status.step == 0
    world.judging.tick(began_ns)
    assert (world.said, world.judging.status.step) == (Decision.OK, 1)
    world.judging.tick(began_ns + PERIOD)
    assert (world.said, world.judging.status.step) == (Decision.STOP, 2)
    late = World()
    late.begin()
    late.infer(1.0, delay=-2.0)
    late.judging.tick(late.now_ns + SECOND)
    assert late.said is Decision.ABSTAIN
    assert "1.400 s old" in late.reason, "with its true age"


def test_an_observation_from_the_future_is_none(world: World) -> None:
    world.begin()
    world.infer()
    world.infer(stamp_ns=world.now_ns + 100 * SECOND)
    assert world.said is Decision.OK
    world.judging.tick(world.now_ns + 2 * SECOND)
    assert world.said is Decision.ABSTAIN
    assert "97.6 s ahead of the clock" in world.reason


def test_a_policy_that_sends_nothing_is_refused_but_not_at_once(world: World) -> None:
    world.begin()
    world.judging.tick(world.now_ns + SECOND)
    assert world.said is Decision.OK
    world.judging.tick(world.now_ns + 2 * SECOND)
    assert world.said is Decision.ABSTAIN


def test_a_policy_that_is_slowed_down_may_take_longer_and_is_judged_in_its_own_time(
    world: World,
) -> None:
    world.begin()
    world.infer()
    world.judging.on_turn(replace(world.turn, stamp_ns=world.now_ns, speed=0.5), world.now_ns)
    world.now_ns += PERIOD
    assert world.infer() is Decision.OK
    np.testing.assert_allclose(world.detector.times, [0.0, 0.6], atol=1e-9)
    world.judging.tick(world.now_ns + 2 * SECOND)
    assert world.said is Decision.OK
    world.judging.tick(world.now_ns + 4 * SECOND)
    assert world.said is Decision.ABSTAIN


@pytest.mark.parametrize("state", [State.PAUSED, State.TELEOP, State.RECOVERING, State.IDLE])
def test_nothing_is_missed_while_the_policy_does_not_own_the_arm(
    world: World, state: State
) -> None:
    world.begin()
    world.infer()
    world.beat(state=state)
    world.judging.tick(world.now_ns + 60 * SECOND)
    world.judging.on_unreadable("garbage")
    assert world.infer(float("nan")) is Decision.OK, "left over from before"


def test_what_was_said_before_an_operator_took_over_is_forgotten(world: World) -> None:
    world.begin()
    assert world.infer(float("nan")) is Decision.ABSTAIN
    world.beat(state=State.ASKING)
    assert world.said is Decision.ABSTAIN
    world.beat(state=State.TELEOP)
    assert world.said is Decision.OK
    world.beat(state=State.AUTONOMOUS)
    assert world.infer() is Decision.OK


def test_inferences_of_another_grant_or_instruction_are_not_of_this_one(world: World) -> None:
    world.begin()
    world.infer()
    world.beat(state=State.PAUSED)
    world.now_ns += 10 * SECOND
    world.beat(state=State.AUTONOMOUS)
    assert world.infer(9.0, stamp_ns=world.turn.stamp_ns - 1) is Decision.OK
    assert world.infer(9.0, instruction_id=8) is Decision.OK
    world.judging.tick(world.now_ns + 2 * SECOND)
    assert world.said is Decision.ABSTAIN, "so none has come"


@pytest.mark.parametrize("state", [State.AUTONOMOUS, State.PAUSED, State.ASKING])
def test_an_episode_that_had_begun_before_is_refused_until_somebody_resets(state: State) -> None:
    world = World()
    world.turn = replace(world.turn, instruction_id=3, episode_id="e3", task="pick")
    world.beat(state=state)
    assert world.said is Decision.ABSTAIN, "before the policy is given the arm"
    assert "began before this node" in world.reason
    world.beat(state=State.AUTONOMOUS)
    assert world.said is Decision.ABSTAIN
    world.judging.on_reset()
    assert world.infer() is Decision.OK


def test_an_older_supervisor_is_not_heard_any_more(world: World) -> None:
    world.begin()
    old = world.turn
    world.turn = replace(old, boot_id=8, state=State.IDLE, instruction_id=0)
    world.beat()
    world.judging.on_turn(replace(old, stamp_ns=world.now_ns), world.now_ns)
    assert world.judging.turn is not None
    assert world.judging.turn.boot_id == 8
