# SPDX-License-Identifier: Apache-2.0
"""The supervisor and the failure detector: its words are obeyed, its silence holds the arm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_failure.decision import Decision
from vla_failure.reaction import ArmState
from vla_nodes.supervision.detection import Word
from vla_nodes.supervision.machine import Limits, Supervisor
from vla_nodes.supervision.types import (
    SECOND,
    ChunkInfo,
    ControllerFault,
    Drop,
    EventKind,
    Goal,
    Owner,
    Source,
    State,
    Verdict,
)

GOAL = Goal("pick up the red block", "pick", 60.0, "episode-1", 7)
TICK = SECOND // 50


class World:
    """A supervisor that requires a detector, with the detector, an arm and a clock."""

    def __init__(self, timeout: float = 1.0) -> None:
        self.core = Supervisor(1000, Limits(detector_timeout=timeout))
        self.now_ns = 100 * SECOND
        self.decision, self.reason, self.margin = Decision.OK, "", float("nan")
        self.speaks = True
        pose = np.eye(4)
        pose[:3, 3] = (0.4, 0.0, 0.3)
        self.arm = ArmState(0, pose, 0.08, True, False, True)
        self.sent: list[tuple[int, int, np.ndarray]] = []  # grant, sequence, poses
        self.heard = (self.core.grant, self.core.state)  # by the detector, a tick late

    def say(self, decision: Decision, reason: str = "", margin: float = float("nan")) -> None:
        """The detector says something from now on."""
        self.decision, self.reason, self.margin = decision, reason, margin
        self.tick()

    def tick(self, count: int = 1) -> None:
        """20 ms of everything."""
        core = self.core
        for _ in range(count):
            self.now_ns += TICK
            core.tick(self.now_ns)
            self.follow()
            self.arm = replace(self.arm, time_ns=self.now_ns)
            core.on_controller(False, ControllerFault.NONE, self.now_ns)
            core.on_arm(self.arm, self.now_ns)
            if self.speaks:
                core.on_failure(
                    Word(
                        core.boot_id,
                        self.heard[0],
                        self.decision,
                        self.reason,
                        self.margin,
                        self.now_ns,
                    ),
                    self.now_ns,
                )
            if self.heard[1] is State.RECOVERING and core.state is State.AUTONOMOUS:
                self.decision = Decision.OK  # it has heard that the arm went back
            self.heard = (core.grant, core.state)

    def follow(self) -> None:
        """The arm is where a chunk of the way back wants it."""
        part = self.core.next_retrace(self.now_ns)
        if part is not None:
            sequence, chunk = part
            self.sent.append((self.core.grant, sequence, chunk.poses))
            self.stamp_ns = chunk.stamp_ns
        if self.core.state is State.RECOVERING and self.sent:
            poses = self.sent[-1][2]
            index = round((self.now_ns - self.stamp_ns) / SECOND / 0.05)
            self.arm = replace(
                self.arm, pose=poses[min(index, len(poses) - 1)], at_rest=index >= len(poses)
            )

    def move(self, x: float, steps: int = 40) -> None:
        """The policy moves the arm to a place."""
        start = self.arm.pose
        for k in range(1, steps + 1):
            pose = start.copy()
            pose[0, 3] += (x - start[0, 3]) * k / steps
            self.arm = replace(self.arm, pose=pose, at_rest=False)
            self.tick()

    def begin(self) -> None:
        self.tick(3)
        self.core.begin(GOAL, self.now_ns)
        self.tick()

    def events(self) -> list[EventKind]:
        return [event.kind for event in self.core.drain_events()]


@pytest.fixture
def world() -> World:
    made = World()
    made.begin()
    assert made.core.state is State.AUTONOMOUS
    made.core.drain_events()
    return made


def test_silence_holds_the_arm_and_asks(world: World) -> None:
    world.tick(100)
    assert world.core.state is State.AUTONOMOUS, "the positive control"
    world.speaks = False
    world.tick(40)
    assert world.core.state is State.AUTONOMOUS
    world.tick(20)
    assert world.core.state is State.ASKING
    assert world.core.owner is Owner.NONE
    assert world.core.reason == "the failure detector is silent"
    assert world.core.on_chunk(ChunkInfo(world.now_ns, 1, 1), world.now_ns) is Drop.NOT_AUTONOMOUS
    assert EventKind.PAUSE in world.events()
    assert world.core.task is not None, "it is the operator who ends it"


def test_a_detector_that_does_not_hear_the_grant_is_silent(world: World) -> None:
    world.speaks = False
    for _ in range(60):
        world.tick()
        word = Word(1000, world.core.grant - 1, Decision.OK, "", 0.0, world.now_ns)
        world.core.on_failure(word, world.now_ns)
    assert world.core.state is State.ASKING


def test_none_is_required_unless_a_timeout_says_so() -> None:
    world = World(timeout=0.0)
    world.speaks = False
    world.begin()
    world.tick(200)
    assert world.core.state is State.AUTONOMOUS
    world.speaks = True
    world.say(Decision.ABSTAIN, "strange")
    assert world.core.state is State.ASKING, "but one that speaks is obeyed"


@pytest.mark.parametrize(
    ("decision", "speaks", "why"),
    [
        (Decision.OK, False, "silent"),
        (Decision.ABSTAIN, True, "ABSTAIN: not what was calibrated"),
        (Decision.STOP, True, "STOP"),
    ],
)
def test_no_task_begins_without_its_consent(decision: Decision, speaks: bool, why: str) -> None:
    world = World()
    world.speaks = speaks
    world.say(decision, "not what was calibrated")
    with pytest.raises(ValueError, match=why):
        world.core.begin(GOAL, world.now_ns)
    assert world.core.state is State.IDLE
    assert world.core.reset(world.now_ns) == speaks, "what was latched in another task is released"
    world.speaks = True
    world.say(Decision.OK)
    world.core.begin(GOAL, world.now_ns)
    assert world.core.state is State.AUTONOMOUS


def test_stop_is_a_stop_that_the_detector_has_made(world: World) -> None:
    task = world.core.task
    world.say(Decision.STOP, "the score is above the band")
    assert world.core.state is State.FAULT
    assert world.core.controller_stop_wanted
    assert task is not None
    assert task.outcome is not None
    assert (task.outcome.verdict, task.outcome.source) == (Verdict.ABORTED, Source.DETECTOR)
    assert "above the band" in task.outcome.message
    assert world.core.reset(world.now_ns)
    assert not world.core.controller_stop_wanted
    assert EventKind.RESET in world.events(), "which the detector hears"


def go_wrong(world: World) -> None:
    """Confident at 0.45, then an alarm at 0.55."""
    world.move(0.45)
    world.say(Decision.OK, margin=2.0)
    world.say(Decision.OK, margin=0.3)
    world.move(0.55)
    world.say(Decision.BACKTRACK, "it fails")


def test_it_goes_back_under_a_grant_of_its_own_and_goes_on_under_a_new_one(world: World) -> None:
    core, before = world.core, world.core.grant
    go_wrong(world)
    assert (core.state, core.owner, core.grant) == (State.RECOVERING, Owner.RECOVERY, before + 1)
    assert core.on_chunk(ChunkInfo(world.now_ns, 9, 1), world.now_ns) is Drop.NOT_AUTONOMOUS
    world.tick(10)
    assert not world.sent, "it has not come to rest yet"
    world.arm = replace(world.arm, at_rest=True)
    for _ in range(1000):
        world.tick()
        if core.state is not State.RECOVERING:
            break
    assert (core.state, core.owner, core.grant) == (State.AUTONOMOUS, Owner.POLICY, before + 2)
    assert "went back" in core.reason
    assert world.arm.pose[0, 3] == pytest.approx(0.45, abs=3e-3)
    assert {grant for grant, _, _ in world.sent} == {before + 1}
    assert [number for _, number, _ in world.sent] == list(range(1, len(world.sent) + 1))
    assert len(world.sent) > 1
    # What the detector says before it has heard that the arm went back is of the grant before.
    word = Word(1000, before + 1, Decision.BACKTRACK, "it fails", -1.0, world.now_ns)
    core.on_failure(word, world.now_ns)
    assert core.state is State.AUTONOMOUS
    assert core.task is not None
    assert core.task.paused_ns == 0, "the way back counts as time of the task"


@pytest.mark.parametrize(
    ("change", "why"),
    [({"in_contact": True}, "touches something"), ({"feels": False}, "does not feel contact")],
)
def test_it_does_not_go_back_but_asks(world: World, change: dict[str, bool], why: str) -> None:
    go_wrong(world)
    world.arm = replace(world.arm, at_rest=True, **change)
    world.tick()
    assert world.core.state is State.ASKING
    assert why in world.core.reason
    assert "it fails" in world.core.reason
    assert not world.sent


def test_pause_on_the_way_back_holds(world: World) -> None:
    go_wrong(world)
    world.arm = replace(world.arm, at_rest=True)
    world.tick(20)
    assert world.sent
    assert not world.core.set_paused(True, "hand in the way", world.now_ns)
    assert world.core.state is State.ASKING
    count = len(world.sent)
    world.tick(100)
    assert len(world.sent) == count


def test_a_controller_that_falls_silent_on_the_way_back_is_not_sent_on(world: World) -> None:
    go_wrong(world)
    world.now_ns += 2 * SECOND
    world.core.tick(world.now_ns)
    assert world.core.state is State.ASKING
    assert "controller/state is not published" in world.core.reason


def test_the_operator_lets_it_go_on_and_the_detector_has_to_agree(world: World) -> None:
    core = world.core
    world.say(Decision.ABSTAIN, "another policy")
    assert core.state is State.ASKING
    assert core.reason == "failure detector, ABSTAIN: another policy"
    world.tick(100)
    world.events()
    assert core.set_paused(False, "", world.now_ns) == ""
    assert world.events() == [EventKind.RESET], "which the detector hears"
    world.tick()
    assert core.state is State.ASKING, "it still objects"
    world.say(Decision.OK)
    assert (core.state, core.owner) == (State.AUTONOMOUS, Owner.POLICY)
    assert EventKind.RESUME in world.events()
    assert core.task is not None
    assert core.task.paused_ns == pytest.approx(103 * TICK, abs=2 * TICK)


def test_an_answer_that_the_detector_does_not_agree_to_is_over_soon(world: World) -> None:
    core = world.core
    world.say(Decision.ABSTAIN, "another policy")
    core.set_paused(False, "", world.now_ns)
    world.tick(120)
    assert core.state is State.ASKING
    assert core.reason.startswith("cannot go on: failure detector, ABSTAIN: another policy")
    world.say(Decision.OK)
    assert core.state is State.ASKING, "the operator has to say so again"
    core.set_paused(False, "", world.now_ns)
    world.tick()
    assert core.state is State.AUTONOMOUS


def test_a_reset_gives_the_task_up_and_a_new_one_begins(world: World) -> None:
    core, task = world.core, world.core.task
    world.say(Decision.ASK_HELP, "above the band")
    with pytest.raises(ValueError, match="asks for help"):
        core.begin(GOAL, world.now_ns)
    assert core.reset(world.now_ns)
    assert core.state is State.IDLE
    assert task is not None
    assert task.outcome is not None
    assert task.outcome.source is Source.DETECTOR
    assert EventKind.RESET in world.events()
    world.say(Decision.OK)
    core.begin(GOAL, world.now_ns)
    world.tick()
    assert core.state is State.AUTONOMOUS
