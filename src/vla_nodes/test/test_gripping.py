# SPDX-License-Identifier: Apache-2.0
"""When a gripper gets a goal: one per real change, none without a command, bounded retries."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_nodes.gripper.rules import (
    Action,
    Cancel,
    End,
    Gripping,
    GrippingRules,
    Motion,
    Send,
    Setpoint,
    Stop,
)

RULES = GrippingRules(max_opening=0.08)
OPEN, CLOSED = Setpoint(0.08, 30.0), Setpoint(0.0, 30.0)
STEP = 0.02  # s


@dataclass
class Bench:
    """A gripper's fingers and its server, stepped in time with the core."""

    rules: GrippingRules = RULES
    width: float = 0.08  # m
    obstacle: float = 0.0  # m, the fingers close no further
    speed: float = 0.2  # m/s
    answers: bool = True
    accepts: bool = True
    fails: bool = False
    cancels: bool = True
    now: float = 100.0
    missing: str = ""
    sent: list[Send] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.core = Gripping(self.rules)
        self.goal: Send | None = None

    def run(self, seconds: float, setpoint: Setpoint | None, *, state: bool = True) -> None:
        """Lets time go by under one setpoint."""
        for _ in range(round(seconds / STEP)):
            self.step(setpoint, state=state)

    def step(self, setpoint: Setpoint | None, *, state: bool = True) -> None:
        """One step; ``state`` = the controller is heard."""
        self.now += STEP
        if state:
            self.core.on_setpoint(setpoint, self.now)
        self.core.on_width(self.width, self.now)
        self._move()
        action = self.core.step(self.now, self.missing)
        if action is None:
            return
        self.actions.append(action)
        if isinstance(action, Send):
            self.sent.append(action)
            self.times.append(self.now)
            if not self.answers:
                return
            if not self.accepts:
                self.core.on_end(action.number, End.REJECTED, "", self.now)
                return
            self.core.on_accepted(action.number, self.now)
            self.goal = action
        elif isinstance(action, Cancel) and self.goal is not None and self.cancels:
            number, self.goal = self.goal.number, None
            self.core.on_end(number, End.CANCELED, "", self.now)

    def _move(self) -> None:
        if self.goal is None or not self.answers:
            return
        aim = max(self.goal.opening, self.obstacle)
        travel = self.speed * STEP
        self.width += float(np.clip(aim - self.width, -travel, travel))
        if abs(aim - self.width) < 1e-9:
            self.width = aim
            number, self.goal = self.goal.number, None
            self.core.on_end(number, End.FAILED if self.fails else End.SUCCEEDED, "", self.now)

    @property
    def motions(self) -> list[tuple[Motion, float]]:
        return [(goal.motion, goal.opening) for goal in self.sent]


def test_closing_grasps_with_its_force_and_opening_moves() -> None:
    bench = Bench(obstacle=0.03)
    bench.run(1.0, CLOSED)
    bench.run(1.0, OPEN)
    assert bench.motions == [(Motion.GRASP, 0.0), (Motion.MOVE, 0.08)]
    assert bench.sent[0].force == 30.0


def test_closing_without_force_moves() -> None:
    bench = Bench()
    bench.run(1.0, Setpoint(0.02, 0.0))
    assert bench.motions == [(Motion.MOVE, 0.02)]


def test_flicker_of_millimetres_makes_one_goal() -> None:
    rng = np.random.default_rng(3)
    bench = Bench(obstacle=0.03)
    for centre in (0.08, 0.0, 0.03, 0.0):
        for _ in range(200):
            opening = float(np.clip(centre + rng.uniform(-0.0035, 0.0035), 0.0, 0.08))
            bench.step(Setpoint(opening, 30.0 + rng.uniform(-2.0, 2.0)))
    # Open is where it was; closed; 30 mm, where the fingers stopped; closed again.
    assert [round(opening, 2) for _, opening in bench.motions] == [0.0, 0.03, 0.0]


def test_without_a_hysteresis_flicker_would_make_many_goals() -> None:
    rng = np.random.default_rng(3)
    bench = Bench(replace(RULES, opening_hysteresis=1e-6))
    for _ in range(200):
        bench.step(Setpoint(float(np.clip(0.04 + rng.uniform(-0.0035, 0.0035), 0, 0.08)), 30.0))
    assert len(bench.sent) > 5


def test_a_ramp_ends_fully_closed_and_fully_open() -> None:
    bench = Bench()
    for opening in (*np.linspace(0.08, 0.003, 11), *([0.003] * 40)):
        bench.run(0.05, Setpoint(float(opening), 30.0))
    assert bench.width == 0.0
    assert len(bench.sent) <= 5
    for opening in (*np.linspace(0.0, 0.077, 11), *([0.077] * 40)):
        bench.run(0.05, Setpoint(float(opening), 30.0))
    assert bench.width == 0.08


def test_the_force_makes_a_goal_only_while_grasping() -> None:
    bench = Bench(obstacle=0.03)
    bench.run(1.0, CLOSED)
    bench.run(1.0, Setpoint(0.0, 33.0))
    assert len(bench.sent) == 1, "within the hysteresis"
    bench.run(1.0, Setpoint(0.0, 45.0))
    assert bench.sent[-1] == Send(2, Motion.GRASP, 0.0, 45.0)
    bench.run(1.0, OPEN)
    count = len(bench.sent)
    bench.run(1.0, Setpoint(0.08, 60.0))
    assert len(bench.sent) == count


def test_a_recorded_width_as_setpoint_does_not_let_go() -> None:
    # A policy trained on measured openings commands the width of what it holds.
    bench = Bench(obstacle=0.04)
    for opening in (*np.linspace(0.08, 0.04, 9), *([0.041] * 40)):
        bench.run(0.05, Setpoint(float(opening), 30.0))
    assert {motion for motion, _ in bench.motions} == {Motion.GRASP}
    bench.run(0.5, Setpoint(0.041, 45.0))
    assert bench.sent[-1].motion is Motion.GRASP, "more force, not an opening by a millimetre"


def test_a_restart_does_not_open_what_is_held() -> None:
    bench = Bench(width=0.04, obstacle=0.04)
    bench.run(1.0, Setpoint(0.042, 30.0))
    assert bench.sent == []
    bench.run(1.0, Setpoint(0.06, 30.0))  # a real change still counts
    assert bench.motions == [(Motion.MOVE, 0.06)]


@pytest.mark.parametrize("setpoint", [None, Setpoint(math.nan, 1.0), Setpoint(0.0, math.inf)])
def test_nothing_moves_without_a_command(setpoint: Setpoint | None) -> None:
    bench = Bench()
    bench.run(2.0, setpoint)
    assert bench.actions == []
    bench.run(0.1, CLOSED)
    assert len(bench.sent) == 1


def test_a_newer_setpoint_cancels_the_goal_under_way_first() -> None:
    bench = Bench(speed=0.02)
    bench.run(0.5, CLOSED)
    bench.run(0.5, OPEN)
    assert bench.actions == [
        Send(1, Motion.GRASP, 0.0, 30.0),
        Cancel(1),
        Send(2, Motion.MOVE, 0.08, 30.0),
    ]
    assert bench.core.drain_notes() == []


def test_a_server_that_replaces_goals_gets_the_newer_one_at_once() -> None:
    bench = Bench(replace(RULES, replaces=True), speed=0.02)
    bench.run(0.5, CLOSED)
    bench.run(0.5, OPEN)
    assert [type(action) for action in bench.actions] == [Send, Send]


def test_goals_keep_their_distance() -> None:
    bench = Bench(replace(RULES, replaces=True))
    for i in range(200):
        bench.step(CLOSED if i % 2 else OPEN)
    assert len(bench.sent) > 5
    assert min(np.diff(bench.times)) >= RULES.min_period - 1e-6


@pytest.mark.parametrize("silent", [False, True])
def test_a_fault_or_silence_stops_an_opening_and_lets_a_grasp_go_on(silent: bool) -> None:
    bench = Bench(width=0.0, speed=0.02)
    bench.run(0.5, OPEN)
    bench.run(2.0, None, state=not silent)
    assert isinstance(bench.actions[-1], Cancel)
    stopped = bench.width
    assert 0.0 < stopped < 0.03
    bench.run(2.0, None)
    assert bench.width == stopped
    bench.run(0.5, OPEN)  # commanded anew
    assert bench.width > stopped

    bench = Bench(speed=0.02)
    bench.run(0.5, CLOSED)
    bench.run(6.0, None, state=not silent)
    assert bench.width == 0.0
    assert len(bench.actions) == 1


def test_after_a_fault_what_is_held_is_not_grasped_anew() -> None:
    bench = Bench(obstacle=0.03)
    bench.run(1.0, CLOSED)
    bench.run(1.0, None)
    bench.run(1.0, CLOSED)
    assert len(bench.sent) == 1


@pytest.mark.parametrize("how", [{"accepts": False}, {"fails": True}, {"answers": False}])
def test_a_failure_is_told_and_tried_again_a_few_times(how: dict[str, bool]) -> None:
    bench = Bench(**how)  # type: ignore[arg-type]
    bench.run(20.0, CLOSED)
    assert len(bench.sent) == 1 + RULES.retries
    notes = bench.core.drain_notes()
    assert "2 more tries" in notes[0]
    assert "gives up" in notes[-1]
    assert bench.core.problem
    assert min(np.diff(bench.times)) >= RULES.min_period - 1e-6
    bench.run(10.0, Setpoint(0.04, 30.0))
    assert len(bench.sent) == 2 + 2 * RULES.retries, "another setpoint is worth as many"


def test_a_goal_that_never_ends_is_canceled_and_told() -> None:
    bench = Bench(speed=0.0)
    bench.run(60.0, CLOSED)
    assert len(bench.sent) == 1 + RULES.retries
    assert sum(isinstance(action, Cancel) for action in bench.actions) == 1 + RULES.retries
    assert "did not end within 10 s" in bench.core.drain_notes()[0]


def test_a_cancellation_that_is_not_answered_stops_the_fingers() -> None:
    bench = Bench(speed=0.0, cancels=False)
    bench.run(1.0, CLOSED)
    bench.run(3.0, OPEN)
    assert [type(action) for action in bench.actions] == [Send, Cancel, Stop]
    assert "did not answer a cancellation" in bench.core.drain_notes()[0]
    bench = Bench(speed=0.0, cancels=False)
    bench.run(90.0, CLOSED)
    assert len(bench.sent) == 1 + RULES.retries


def test_a_server_that_goes_away_is_told_and_waited_for() -> None:
    bench = Bench(speed=0.02)
    bench.run(0.5, CLOSED)
    bench.missing = "the action gripper/grasp"
    bench.goal = None
    bench.run(5.0, CLOSED)
    assert len(bench.sent) == 1
    assert bench.core.waits_for == "the action gripper/grasp"
    assert "has gone" in bench.core.drain_notes()[0]
    bench.missing = ""
    bench.run(5.0, CLOSED)
    assert bench.width == 0.0


def test_no_goal_without_the_position_of_the_fingers() -> None:
    core = Gripping(RULES)
    for i in range(50):
        core.on_setpoint(CLOSED, i * STEP)
        assert core.step(i * STEP) is None
    assert core.waits_for == "the joint states of the fingers"


def test_homing_only_while_nobody_commands() -> None:
    bench = Bench()
    bench.step(CLOSED)
    assert "controller" in bench.core.home(bench.now)
    bench.run(1.0, None)
    assert "not there" in bench.core.home(bench.now, "the action gripper/homing")
    bench.width, bench.speed = 0.05, 0.0
    assert bench.core.home(bench.now) == ""
    bench.run(0.1, None)
    assert bench.sent[-1].motion is Motion.HOME
    assert bench.core.home(bench.now) != "", "one is under way"


openings = st.one_of(st.floats(-0.05, 0.15), st.sampled_from([0.0, 0.08, math.nan, math.inf]))
spells = st.lists(
    st.tuples(
        st.sampled_from(["command", "none", "silent"]),
        openings,
        st.floats(0.0, 80.0),
        st.integers(1, 80),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(spells=spells, replaces=st.booleans(), cancels=st.booleans(), accepts=st.booleans())
def test_whatever_comes_goals_are_commanded_valid_and_apart(
    spells: list[tuple[str, float, float, int, bool]],
    replaces: bool,
    cancels: bool,
    accepts: bool,
) -> None:
    bench = Bench(replace(RULES, replaces=replaces), cancels=cancels, accepts=accepts, speed=0.05)
    heard = -math.inf
    for kind, opening, force, steps, fails in spells:
        bench.fails = fails
        for _ in range(steps):
            count = len(bench.sent)
            setpoint = Setpoint(opening, force) if kind == "command" else None
            bench.step(setpoint, state=kind != "silent")
            good = math.isfinite(opening) and kind == "command"
            heard = bench.now if good else (heard if kind == "silent" else -math.inf)
            if len(bench.sent) > count:
                assert bench.now - heard <= RULES.state_timeout + 1e-9
                assert 0.0 <= bench.sent[-1].opening <= RULES.max_opening
    assert all(np.diff(bench.times) >= RULES.min_period - 1e-6)
    assert len(bench.sent) <= 1 + sum(steps for *_, steps, _ in spells)
    bench.fails = False
    sent = len(bench.sent)
    bench.run(60.0, CLOSED)  # one setpoint, however the server behaves
    assert len(bench.sent) - sent <= 2 + 2 * RULES.retries
