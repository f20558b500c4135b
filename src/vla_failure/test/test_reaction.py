# SPDX-License-Identifier: Apache-2.0
"""The reaction to verdicts: each way to hold the arm trips, and the way back is the way come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from vla_failure import FailureDetectionError
from vla_failure.decision import Decision
from vla_failure.reaction import STEP_DT, ArmState, Phase, Reaction, ReactionConfig
from vla_failure.reaction.path import MeasuredPath, angle, distance, timed

PERIOD_NS = 20_000_000
CONFIDENT, DOUBTFUL = 2.0, 0.2  # margins


def turned(about_z: float) -> np.ndarray:
    c, s = np.cos(about_z), np.sin(about_z)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def pose(x: float, y: float = 0.0, about_z: float = 0.0) -> np.ndarray:
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = turned(about_z), (x, y, 0.3)
    return found


class Arm:
    """An arm that is where it is told to be, and a clock."""

    def __init__(self, reaction: Reaction) -> None:
        self.reaction = reaction
        self.now_ns = 1_000_000_000
        self.state = ArmState(self.now_ns, pose(0.4), 0.08, True, False, True)
        self.poses: list[np.ndarray] = []
        reaction.begin()
        self.tell()

    def tell(self, **changes: object) -> None:
        """One more state, 20 ms later."""
        self.now_ns += PERIOD_NS
        self.state = replace(self.state, time_ns=self.now_ns, **changes)  # type: ignore[arg-type]
        self.reaction.on_arm(self.state)

    def go(self, target: np.ndarray, steps: int = 50, **changes: object) -> None:
        """Moves on a straight line under the policy, 5 mm per state or less."""
        start = self.state.pose
        for k in range(1, steps + 1):
            between = start.copy()
            between[:3, 3] += (target[:3, 3] - start[:3, 3]) * k / steps
            between[:3, :3] = target[:3, :3]
            self.tell(pose=between, at_rest=False, **changes)

    def judge(self, decision: Decision, margin: float = float("nan"), reason: str = "") -> None:
        self.reaction.on_verdict(decision, reason, margin, self.now_ns)

    def go_back(self, limit_s: float = 30.0) -> None:
        """Follows what the reaction sends until it sends no more."""
        end_ns = self.now_ns + round(limit_s * 1e9)
        sent = None
        while self.reaction.phase is Phase.RETRACING and self.now_ns < end_ns:
            sent = self.reaction.chunk(self.now_ns) or sent
            assert sent is not None, "the first chunk is due at once"
            index = round((self.now_ns - sent.stamp_ns) * 1e-9 / STEP_DT)
            here = sent.poses[min(index, len(sent.poses) - 1)]
            ended = index >= len(sent.poses)
            self.poses.append(here)
            self.tell(pose=here, at_rest=ended)


@pytest.fixture
def arm() -> Arm:
    return Arm(Reaction())


def come_to_alarm(arm: Arm) -> np.ndarray:
    """Confident at x = 0.5, round a corner, doubtful, alarmed at x = 0.6. Returns the former."""
    arm.go(pose(0.5))
    arm.judge(Decision.OK, CONFIDENT)
    confident = arm.state.pose
    arm.go(pose(0.5, 0.1))
    arm.judge(Decision.WARN, DOUBTFUL)
    arm.go(pose(0.6, 0.1, 0.4))
    arm.judge(Decision.BACKTRACK, -1.0, "it fails")
    return confident


def test_it_goes_back_by_the_way_it_came_to_the_last_confident_pose(arm: Arm) -> None:
    confident = come_to_alarm(arm)
    assert arm.reaction.phase is Phase.BRAKING
    assert arm.reaction.chunk(arm.now_ns) is None, "not before it is at rest"
    arm.go(pose(0.62, 0.1, 0.4), steps=10)
    assert arm.reaction.phase is Phase.BRAKING
    arm.tell(at_rest=True)
    assert arm.reaction.phase is Phase.RETRACING
    arm.go_back()
    assert arm.reaction.phase is Phase.FOLLOWING
    assert arm.state.pose == pytest.approx(confident, abs=2e-3)
    way = np.array(arm.poses)
    assert distance(way[0], pose(0.62, 0.1)) < 2e-3, "from where it has come to rest"
    assert way[:, 1, 3].max() < 0.101
    corner = np.linalg.norm(way[:, :2, 3] - (0.5, 0.1), axis=1).min()
    assert corner < 0.01, "round the same corner, not across"
    assert arm.reaction.retraced_m == pytest.approx(0.22, abs=0.01)


def test_the_way_back_is_slow_smooth_and_from_rest_to_rest() -> None:
    poses = np.array([pose(0.4 + 0.002 * k, 0.0, 0.004 * k) for k in range(101)])
    found = timed(poses, speed=0.15, turning=0.75, step_dt=STEP_DT)
    assert found[0] == pytest.approx(poses[0])
    assert found[-1] == pytest.approx(poses[-1])
    speeds = [distance(a, b) / STEP_DT for a, b in pairwise(found)]
    turns = [angle(a, b) / STEP_DT for a, b in pairwise(found)]
    assert 0.12 < max(speeds) <= 0.15 + 1e-6
    assert max(turns) <= 0.75
    assert max(speeds[0], speeds[-1]) < 0.01
    assert np.abs(np.diff(speeds)).max() / STEP_DT < 0.5, "m/s²"
    assert np.abs(np.linalg.det(found[:, :3, :3]) - 1.0).max() < 1e-9
    quick = timed(poses, speed=0.3, turning=9.0, step_dt=STEP_DT)
    assert len(quick) < 0.6 * len(found), "the limits are what makes it slow"


def test_without_a_confident_pose_it_goes_back_to_where_it_was_given_the_arm(arm: Arm) -> None:
    arm.go(pose(0.5))
    arm.judge(Decision.WARN, DOUBTFUL)
    arm.judge(Decision.BACKTRACK)
    arm.tell(at_rest=True)
    arm.go_back()
    assert arm.state.pose == pytest.approx(pose(0.4), abs=2e-3)


def test_the_way_back_ends_where_the_gripper_was_last_commanded_otherwise(arm: Arm) -> None:
    arm.judge(Decision.OK, CONFIDENT)
    arm.go(pose(0.5))
    arm.go(pose(0.5, 0.1), opening=0.04)
    arm.go(pose(0.5, 0.2), opening=0.043)  # a flicker is none
    arm.judge(Decision.BACKTRACK)
    arm.tell(at_rest=True)
    arm.go_back()
    assert arm.reaction.phase is Phase.FOLLOWING
    assert distance(arm.state.pose, pose(0.5, 0.002)) < 4e-3


def test_a_second_time_it_goes_on_from_there(arm: Arm) -> None:
    confident = come_to_alarm(arm)
    arm.tell(at_rest=True)
    arm.go_back()
    arm.go(pose(0.5, -0.1))
    arm.judge(Decision.BACKTRACK)
    arm.tell(at_rest=True)
    arm.go_back()
    assert arm.state.pose == pytest.approx(confident, abs=2e-3)
    arm.poses.clear()


@pytest.mark.parametrize(
    ("decision", "phase"),
    [
        (Decision.OK, Phase.FOLLOWING),
        (Decision.WARN, Phase.FOLLOWING),
        (Decision.STOP, Phase.STOPPED),
        (Decision.BACKTRACK, Phase.BRAKING),
        (Decision.ASK_HELP, Phase.ASKING),
        (Decision.ABSTAIN, Phase.ASKING),
    ],
)
def test_every_verdict(arm: Arm, decision: Decision, phase: Phase) -> None:
    arm.go(pose(0.5))
    arm.judge(decision, -1.0, "because")
    assert arm.reaction.phase is phase
    assert arm.reaction.reason == ("" if phase is Phase.FOLLOWING else "because")
    arm.judge(Decision.OK, CONFIDENT)
    arm.tell()
    assert arm.reaction.phase is phase, "a later verdict changes nothing"
    assert arm.reaction.chunk(arm.now_ns) is None
    arm.reaction.begin()
    assert arm.reaction.phase is Phase.FOLLOWING


Spoil = Callable[[Arm], None]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda arm: arm.tell(at_rest=True, in_contact=True), "it touches something"),
        (lambda arm: arm.tell(at_rest=True, feels=False), "does not feel contact"),
        (lambda arm: arm.tell(at_rest=True, opening=0.0), "no way back"),
        (lambda arm: [arm.tell() for _ in range(250)], "does not come to rest"),
    ],
)
def test_it_does_not_go_back(arm: Arm, spoil: Spoil, reason: str) -> None:
    come_to_alarm(arm)
    spoil(arm)
    assert arm.reaction.phase is Phase.ASKING
    assert reason in arm.reaction.reason
    assert "it fails" in arm.reaction.reason, "and why it wanted to"
    assert arm.reaction.chunk(arm.now_ns) is None


def test_contact_on_the_way_back_ends_it(arm: Arm) -> None:
    come_to_alarm(arm)
    arm.tell(at_rest=True)
    assert arm.reaction.chunk(arm.now_ns) is not None
    arm.tell(in_contact=True, at_rest=False)
    assert arm.reaction.phase is Phase.ASKING
    assert "touched something on its way back" in arm.reaction.reason
    assert arm.reaction.chunk(arm.now_ns + 10**9) is None


@pytest.mark.parametrize("at_rest", [True, False])
def test_an_arm_that_does_not_arrive_asks(arm: Arm, at_rest: bool) -> None:
    come_to_alarm(arm)
    arm.tell(at_rest=True)
    arm.reaction.chunk(arm.now_ns)
    for _ in range(1000):
        arm.tell(at_rest=at_rest)
    assert arm.reaction.phase is Phase.ASKING
    assert "did not arrive" in arm.reaction.reason


def test_an_arm_that_has_not_moved_yet_is_there_already(arm: Arm) -> None:
    arm.judge(Decision.BACKTRACK, -1.0)
    assert arm.reaction.phase is Phase.BRAKING
    arm.tell(at_rest=False)
    assert arm.reaction.phase is Phase.BRAKING, "not before it is at rest"
    arm.tell(at_rest=True)
    assert arm.reaction.phase is Phase.FOLLOWING
    assert arm.reaction.retraced_m == 0.0
    # The same at a confident pose that it has hardly left; but not in contact.
    arm.go(pose(0.5))
    arm.judge(Decision.OK, CONFIDENT)
    arm.go(pose(0.504))
    for in_contact, phase in ((False, Phase.FOLLOWING), (True, Phase.ASKING)):
        arm.judge(Decision.BACKTRACK, -1.0)
        arm.tell(at_rest=True, in_contact=in_contact)
        assert arm.reaction.phase is phase


def test_what_nobody_saw_is_no_way_back(arm: Arm) -> None:
    arm.go(pose(0.5))
    arm.now_ns += 10**9
    arm.tell(pose=pose(0.5, 0.3))  # somebody has moved it meanwhile
    arm.go(pose(0.55, 0.3))
    arm.judge(Decision.BACKTRACK)
    arm.tell(at_rest=True)
    assert arm.reaction.phase is Phase.ASKING
    assert "not known" in arm.reaction.reason


def test_a_pause_at_rest_is_no_gap() -> None:
    path = MeasuredPath()
    path.add(0, pose(0.4), None)
    path.add(20_000_000, pose(0.45), None)
    path.add(5_000_000_000, pose(0.452), None)
    assert path.whole
    assert len(path.way_back(None)[0]) == 3
    path.add(10_000_000_000, pose(0.5), None)
    assert not path.whole
    assert len(path.way_back(None)[0]) == 1


@pytest.mark.parametrize("name", ["speed", "turning", "patience", "confident"])
def test_bad_settings_are_refused(name: str) -> None:
    with pytest.raises(FailureDetectionError, match=f"{name} is -1"):
        ReactionConfig(**{name: -1.0})
