# SPDX-License-Identifier: Apache-2.0
"""The reaction to verdicts: go on, stop, go back along the measured path, or hold and ask.

It knows no ROS and no simulation. Whoever drives it tells it verdicts and states of the arm, sends
the chunks that it makes, and holds the arm wherever the phase is not FOLLOWING or RETRACING. Times
are ROS times, ns. Not thread-safe.

Going back: the arm brakes to rest, then the controller is given the measured path in reverse,
slowly and from rest to rest, up to the last confident pose: where the tool was at the last
observation whose score was well below the band, or where the policy was given the arm. The gripper
stays as it is commanded, so the way ends where that was last changed. It is refused while the arm
touches something or could not feel it if it did, and given up as soon as it does. An arm that is
there already, as when it had not moved yet, is given to the policy anew where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from ..decision import Decision
from ..episodes import FailureDetectionError, FloatArray
from .path import MeasuredPath, angle, distance, length, timed

STEP_DT = 0.05  # s, between the poses of a chunk
CHUNK_STEPS, SENT_EVERY = 20, 8  # poses of a chunk, and poses from one chunk to the next


class Phase(Enum):
    """What the arm does."""

    FOLLOWING = "follows the policy"
    BRAKING = "brakes, to go back"
    RETRACING = "goes back"
    ASKING = "holds and asks for help"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ReactionConfig:
    """How the arm goes back.

    Attributes:
        confident: Least margin of a confident observation, in widths of the band.
        speed: Largest speed of the tool on the way back, m/s.
        turning: The same of its rotation, rad/s.
        least: Who has no longer way to go is there already, m (or 10 rad per m).
        patience: For the arm to come to rest before and after it, s.
        reached: Largest distance from the pose that was to be reached, m (or 5 rad per m).
    """

    confident: float = 1.0
    speed: float = 0.15
    turning: float = 0.75
    least: float = 0.01
    patience: float = 4.0
    reached: float = 0.03

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.0 < value < np.inf:
                raise FailureDetectionError(f"{name} is {value}; valid: > 0")


@dataclass(frozen=True)
class ArmState:
    """What is measured of the arm.

    Attributes:
        time_ns: When.
        pose: (4, 4) of the tool in the base frame.
        opening: Commanded opening of the gripper, m; None = it has not been commanded.
        at_rest: Whether it holds and does not move.
        in_contact: Whether it touches something.
        feels: Whether it would know of that.
    """

    time_ns: int
    pose: FloatArray
    opening: float | None
    at_rest: bool
    in_contact: bool
    feels: bool


@dataclass(frozen=True)
class RetraceChunk:
    """A part of the way back.

    Attributes:
        stamp_ns: For when the first pose is meant.
        poses: (n, 4, 4) of the tool in the base frame, ``STEP_DT`` apart. The gripper stays as it
            is: no openings.
    """

    stamp_ns: int
    poses: FloatArray


class Reaction:
    """Follows the episodes of one arm."""

    def __init__(self, config: ReactionConfig | None = None) -> None:
        self.phase = Phase.FOLLOWING
        self.reason = ""
        self.retraced_m = 0.0  # length of the last way back
        self._config = config or ReactionConfig()
        self._path = MeasuredPath()
        self._confident_ns: int | None = None
        self._since_ns: int | None = None
        self._poses: FloatArray = np.empty((0, 4, 4))
        self._points = 0
        self._begin_ns: int | None = None
        self._sent = -1

    def begin(self) -> None:
        """An episode begins where the arm is: the policy is given it."""
        self._path.clear()
        self._confident_ns = None
        self._set(Phase.FOLLOWING, "")

    def go_on(self) -> None:
        """Whoever was asked says that the policy may go on."""
        self._set(Phase.FOLLOWING, "")

    def ask(self, reason: str) -> None:
        """Holds and asks."""
        self._set(Phase.ASKING, reason)

    def on_verdict(self, decision: Decision, reason: str, margin: float, observed_ns: int) -> None:
        """Takes the verdict on an inference.

        Args:
            decision: What shall be done.
            reason: Why.
            margin: From the score up to the band, in its widths; NaN = unknown.
            observed_ns: When what was judged was observed.
        """
        if self.phase is not Phase.FOLLOWING:
            return
        if decision in (Decision.OK, Decision.WARN):
            if margin >= self._config.confident:
                self._confident_ns = observed_ns
        elif decision is Decision.STOP:
            self._set(Phase.STOPPED, reason)
        elif decision is Decision.BACKTRACK:
            self._set(Phase.BRAKING, reason)
        else:
            self.ask(reason)

    def on_arm(self, arm: ArmState) -> None:
        """Takes a state of the arm, at 20 Hz or more while the policy or this moves it."""
        if self.phase in (Phase.FOLLOWING, Phase.BRAKING):
            self._path.add(arm.time_ns, arm.pose, arm.opening)
        if self._since_ns is None:
            self._since_ns = arm.time_ns
        if self.phase is Phase.BRAKING:
            self._brake(arm)
        elif self.phase is Phase.RETRACING:
            self._retrace(arm)

    def chunk(self, now_ns: int) -> RetraceChunk | None:
        """The next part of the way back, once it is due."""
        if self.phase is not Phase.RETRACING:
            return None
        if self._begin_ns is None:
            self._begin_ns = now_ns
        step_ns = round(STEP_DT * 1e9)
        first = (now_ns - self._begin_ns) // step_ns // SENT_EVERY * SENT_EVERY
        # A single pose is where the chunk before ends.
        if first <= self._sent or first >= len(self._poses) - 1:
            return None
        self._sent = first
        return RetraceChunk(
            self._begin_ns + first * step_ns, self._poses[first : first + CHUNK_STEPS]
        )

    def _brake(self, arm: ArmState) -> None:
        if not arm.at_rest:
            if self._lasts(arm, self._config.patience):
                self.ask(f"{self.reason}; it does not come to rest, so it does not go back")
            return
        way, leads_there = self._path.way_back(self._confident_ns)
        travelled, turned = length(way)
        short = travelled + 0.1 * turned < self._config.least
        why = self._refusal(arm, short and not leads_there)
        if why:
            self.ask(f"{self.reason}; it does not go back: {why}")
            return
        self.retraced_m = 0.0 if short else travelled
        if short:
            self._set(Phase.FOLLOWING, "")
            return
        self._points = len(way)
        self._poses = timed(
            way, speed=self._config.speed, turning=self._config.turning, step_dt=STEP_DT
        )
        self._begin_ns, self._sent = None, -1
        self._set(Phase.RETRACING, self.reason)

    def _refusal(self, arm: ArmState, barred: bool) -> str:
        """Why it must not go back; empty = it may."""
        if not arm.feels:
            return "the arm does not feel contact"
        if arm.in_contact:
            return "it touches something"
        if self._confident_ns is None and not self._path.whole:
            return "the way to a confident pose is not known"
        if barred:
            return "there is no way back on which the gripper was as it is"
        return ""

    def _retrace(self, arm: ArmState) -> None:
        if arm.in_contact:
            self.ask(f"{self.reason}; it touched something on its way back")
            return
        if self._begin_ns is None:
            return
        over = (arm.time_ns - self._begin_ns) * 1e-9 - STEP_DT * (len(self._poses) - 1)
        if over < 0.0 or not (arm.at_rest or over > self._config.patience):
            return
        goal = self._poses[-1]
        off = max(distance(arm.pose, goal), 0.2 * angle(arm.pose, goal))
        if not arm.at_rest or off > self._config.reached:
            self.ask(f"{self.reason}; it went back, but did not arrive")
            return
        self._path.forget(self._points - 1, arm.time_ns)
        self._set(Phase.FOLLOWING, "")

    def _lasts(self, arm: ArmState, limit: float) -> bool:
        return self._since_ns is not None and (arm.time_ns - self._since_ns) * 1e-9 > limit

    def _set(self, phase: Phase, reason: str) -> None:
        self.phase, self.reason, self._since_ns = phase, reason, None
