# SPDX-License-Identifier: Apache-2.0
"""When a gripper that is moved by actions gets a goal, and which: without ROS.

A chunk carries an opening for every step, and a policy's openings flicker by millimetres, twenty
times a second. A gripper with actions takes one goal per real change. Every method takes the steady
time at which it is called, in s. Not thread-safe: the adapter serialises the calls.

Rules:

* A setpoint makes a goal when it differs from the one before by more than a hysteresis. The last
  bit of the range, half a hysteresis at either end, means closed and open.
* Closing with a force grasps: whatever is between the fingers is held. All else moves them.
* Goals keep a least distance in time. A newer one replaces the one under way.
* Nothing moves until a chunk has commanded the gripper. A controller in FAULT, inactive or silent
  leaves it as it is: an opening under way is stopped, a grasp goes on, it may hold something.
* What fails is tried again a few times, then left until the setpoint changes. Every wait ends.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


class Motion(enum.Enum):
    """What a gripper is asked to do."""

    MOVE = "move"
    GRASP = "grasp"
    HOME = "homing"


class End(enum.Enum):
    """How a goal has ended."""

    SUCCEEDED = "succeeded"
    REJECTED = "was rejected"
    FAILED = "failed"
    CANCELED = "was canceled"


@dataclass(frozen=True)
class Setpoint:
    """What the controller commands: ``opening`` in m between the pads, ``force`` in N."""

    opening: float
    force: float


@dataclass(frozen=True)
class Send:
    """Send a goal. ``number`` counts goals and comes back with what becomes of it."""

    number: int
    motion: Motion
    opening: float  # m; of no meaning for HOME
    force: float  # N; of meaning for GRASP


@dataclass(frozen=True)
class Cancel:
    """Cancel a goal, or drop it if its acceptance is still to come."""

    number: int


@dataclass(frozen=True)
class Stop:
    """Stop the fingers by any other means there is: a cancellation was not answered."""


Action = Send | Cancel | Stop


@dataclass(frozen=True)
class GrippingRules:
    """Settings; lengths in m, forces in N, times in s.

    Attributes:
        max_opening: Largest distance between the pads.
        opening_hysteresis: Change of the opening that makes a goal.
        force_hysteresis: Change of the force that makes a goal while grasping.
        min_period: Least time between two goals.
        answer_timeout: For a goal to be accepted and for a cancellation to take effect.
        result_timeout: For a goal to end.
        retries: Goals after the first that a setpoint is worth.
        state_timeout: Age at which the controller's state or the fingers' position is stale.
        replaces: Whether the gripper's server replaces a goal under way by a newer one itself;
            otherwise the goal is canceled first.
    """

    max_opening: float
    opening_hysteresis: float = 0.008
    force_hysteresis: float = 5.0
    min_period: float = 0.25
    answer_timeout: float = 2.0
    result_timeout: float = 10.0
    retries: int = 2
    state_timeout: float = 0.5
    replaces: bool = False


@dataclass
class _UnderWay:
    """A goal that has not ended."""

    goal: Send
    sent_at: float
    accepted_at: float | None = None
    canceled_at: float | None = None
    problem: str = ""  # why it is canceled, if that is a failure of the gripper


class Gripping:
    """Turns setpoints into goals, one at a time."""

    def __init__(self, rules: GrippingRules) -> None:
        """Starts with nothing commanded and nothing known."""
        self.failures = 0  # of the setpoint in force
        self.goals = 0
        self.waits_for = ""  # what is missing for a goal that is due; empty = nothing
        self.problem = ""  # the last failure of the setpoint in force
        self._rules = rules
        self._setpoint: Setpoint | None = None
        self._setpoint_at = -math.inf
        self._width = math.nan
        self._width_at = -math.inf
        self._under_way: _UnderWay | None = None
        self._target: Setpoint | None = None  # of the last goal
        self._motion = Motion.MOVE  # of the last goal
        self._reached = False
        self._next_at = -math.inf
        self._home_asked = False
        self._notes: list[str] = []

    # --- inputs -----------------------------------------------------------------------------------

    def on_setpoint(self, setpoint: Setpoint | None, now: float) -> None:
        """Takes what the controller commands; None = it wants the gripper left as it is."""
        self._setpoint_at = now
        if setpoint is not None and not (
            math.isfinite(setpoint.opening) and math.isfinite(setpoint.force)
        ):
            self._note(f"a setpoint of {setpoint.opening} m, {setpoint.force} N is ignored")
            setpoint = None
        self._setpoint = setpoint

    def on_width(self, width: float, now: float) -> None:
        """Takes the measured distance between the pads, m."""
        if math.isfinite(width):
            self._width, self._width_at = width, now

    def on_accepted(self, number: int, now: float) -> None:
        """The server has taken a goal."""
        if self._under_way is not None and self._under_way.goal.number == number:
            self._under_way.accepted_at = now

    def on_end(self, number: int, end: End, text: str, now: float) -> None:
        """A goal has ended; ``text`` says why, for people. Ends of older goals do not count."""
        under_way = self._under_way
        if under_way is None or under_way.goal.number != number:
            return
        self._under_way = None
        if under_way.goal.motion is Motion.HOME:
            self._note(f"homing {end.value}{': ' if text else ''}{text}")
        elif under_way.problem:
            self._fail(under_way, under_way.problem, now)
        elif end is End.SUCCEEDED:
            self._reached, self.failures, self.problem = True, 0, ""
        elif under_way.canceled_at is not None:
            self._target = None  # stopped on the way: the next setpoint counts, be it the same
        else:
            self._fail(under_way, f"{end.value}{': ' if text else ''}{text}", now)

    def home(self, now: float, missing: str = "") -> str:
        """Asks for the gripper's own reference run, which moves the fingers over their range.

        Returns:
            Why not; empty = it will be done.
        """
        if missing:
            return f"{missing} is not there"
        if self._wanted(now) is not None:
            return "the controller commands the gripper"
        if self._under_way is not None:
            return f"a {self._under_way.goal.motion.value} is under way"
        self._home_asked = True
        return ""

    def drain_notes(self) -> list[str]:
        """What happened since the last call, in words, oldest first."""
        notes, self._notes = self._notes, []
        return notes

    # --- decisions --------------------------------------------------------------------------------

    def step(self, now: float, missing: str = "") -> Action | None:
        """Decides what is to be done now; call it often.

        Args:
            now: Steady time, s.
            missing: What the gripper's server lacks to take a goal; empty = it is there.
        """
        self.waits_for = ""
        wanted = self._wanted(now)
        if self._under_way is not None:
            return self._watch(self._under_way, wanted, missing, now)
        if self._home_asked and wanted is None:
            self._home_asked, self._target = False, None
            return self._send(Motion.HOME, 0.0, 0.0, now)
        self._home_asked = False
        if wanted is None or not self._due(wanted) or now < self._next_at:
            return None
        self.waits_for = missing or self._width_missing(now)
        return None if self.waits_for else self._begin(wanted, now)

    @property
    def under_way(self) -> str:
        """The motion under way, in a word; empty = none."""
        return self._under_way.goal.motion.value if self._under_way else ""

    def _wanted(self, now: float) -> Setpoint | None:
        """The setpoint to act on; None = leave the gripper as it is."""
        if now - self._setpoint_at > self._rules.state_timeout:
            return None
        return self._setpoint

    def _width_missing(self, now: float) -> str:
        stale = now - self._width_at > self._rules.state_timeout
        return "the joint states of the fingers" if stale else ""

    def _opening_differs(self, wanted: Setpoint) -> bool:
        """Whether the opening is another than the one that the last goal was for."""
        target, rules = self._target, self._rules
        if target is None or abs(wanted.opening - target.opening) > rules.opening_hysteresis:
            return True
        return self._snapped(wanted.opening) in {0.0, rules.max_opening} - {target.opening}

    def _differs(self, wanted: Setpoint) -> bool:
        """Whether a setpoint is another than the one that the last goal was for."""
        if self._target is None or self._opening_differs(wanted):
            return True
        changed = abs(wanted.force - self._target.force) > self._rules.force_hysteresis
        return changed and self._motion is Motion.GRASP

    def _due(self, wanted: Setpoint) -> bool:
        if self._differs(wanted):
            return True
        return not self._reached and self.failures <= self._rules.retries

    def _snapped(self, opening: float) -> float:
        """The opening that is commanded: the ends of the range are reached for sure."""
        margin = 0.5 * self._rules.opening_hysteresis
        if opening <= margin:
            return 0.0
        return opening if opening < self._rules.max_opening - margin else self._rules.max_opening

    def _begin(self, wanted: Setpoint, now: float) -> Send | None:
        opening = self._snapped(wanted.opening)
        if self._differs(wanted):
            self.failures, self.problem = 0, ""
        small = 0.0 <= opening - self._width <= self._rules.opening_hysteresis
        if self._target is None and small:
            # The fingers are there, and may hold something that this opening would drop.
            self._target, self._reached = Setpoint(opening, wanted.force), True
            self._motion = Motion.MOVE
            return None
        # Another force for about the same opening, or another try, is the same motion.
        if self._opening_differs(wanted):
            grasp = opening < self._width and wanted.force > 0.0
            self._motion = Motion.GRASP if grasp else Motion.MOVE
        self._target, self._reached = Setpoint(opening, wanted.force), False
        return self._send(self._motion, opening, wanted.force, now)

    def _send(self, motion: Motion, opening: float, force: float, now: float) -> Send:
        self.goals += 1
        goal = Send(self.goals, motion, opening, force)
        self._under_way = _UnderWay(goal, now)
        self._next_at = now + self._rules.min_period
        return goal

    # --- goals under way --------------------------------------------------------------------------

    def _watch(
        self, under_way: _UnderWay, wanted: Setpoint | None, missing: str, now: float
    ) -> Action | None:
        """Timeouts and preemption of the goal under way."""
        rules, goal = self._rules, under_way.goal
        if missing:
            self._under_way = None
            self._fail(under_way, f"{missing} has gone", now)
            return Cancel(goal.number)
        if under_way.canceled_at is not None:
            if now - under_way.canceled_at <= rules.answer_timeout:
                return None
            self._under_way = None
            if not under_way.problem:
                self._target = None
            self._fail(under_way, under_way.problem or "did not answer a cancellation", now)
            return Stop()
        if under_way.accepted_at is None:
            if now - under_way.sent_at <= rules.answer_timeout:
                return None
            self._under_way = None
            self._fail(under_way, f"was not answered within {rules.answer_timeout:g} s", now)
            return Cancel(goal.number)
        if now - under_way.accepted_at > rules.result_timeout:
            under_way.problem = f"did not end within {rules.result_timeout:g} s"
            return self._cancel(under_way, now)
        if goal.motion is Motion.HOME:
            return None
        if wanted is None:
            return self._cancel(under_way, now) if goal.motion is Motion.MOVE else None
        if not self._differs(wanted) or now < self._next_at:
            return None
        if rules.replaces and not self._width_missing(now):
            self._under_way = None
            return self._begin(wanted, now)
        return self._cancel(under_way, now)

    def _cancel(self, under_way: _UnderWay, now: float) -> Cancel:
        under_way.canceled_at = now
        return Cancel(under_way.goal.number)

    def _fail(self, under_way: _UnderWay, text: str, now: float) -> None:
        self.failures += 1
        goal = under_way.goal
        what = goal.motion.value
        if goal.motion is not Motion.HOME:
            what += f" to {1e3 * goal.opening:.0f} mm"
        self.problem = f"{what} {text}"
        left = max(0, self._rules.retries + 1 - self.failures)
        self._note(f"{self.problem}; {left} more tries" if left else f"{self.problem}; gives up")
        self._next_at = max(self._next_at, now + self._rules.min_period)

    def _note(self, text: str) -> None:
        self._notes.append(text)
