# SPDX-License-Identifier: Apache-2.0
"""What every input does to the supervisor in every situation, found by trying it.

``python -m vla_nodes.supervision.table`` prints the table of docs/supervision.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vla_failure.decision import Decision
from vla_nodes.supervision.detection import Word
from vla_nodes.supervision.machine import Limits, Supervisor
from vla_nodes.supervision.types import (
    SECOND,
    ControllerFault,
    Goal,
    State,
    Verdict,
)

LIMITS = Limits(recorder_timeout=0.0, policy_timeout=1.5)
GOAL = Goal("pick up the red block", "pick", 10.0, "episode-1", 7)
BEGAN = 100 * SECOND
NOW = 101 * SECOND


def say(core: Supervisor, decision: Decision, now_ns: int, **changes: Any) -> None:
    """A word of the failure detector."""
    word = Word(core.boot_id, core.grant, decision, "because", float("nan"), now_ns)
    core.on_failure(replace(word, **changes), now_ns)


def begin(core: Supervisor, now_ns: int = NOW) -> str:
    """Gives a goal. Returns why it is refused; empty = it is not."""
    try:
        core.begin(GOAL, now_ns)
    except ValueError as error:
        return str(error)
    return ""


def _judge(verdict: Verdict) -> Callable[[Supervisor], None]:
    return lambda core: core.judge("episode-1", "pick", NOW, verdict, "", NOW)


def _controller(in_fault: bool, fault: ControllerFault) -> Callable[[Supervisor], None]:
    return lambda core: core.on_controller(in_fault, fault, NOW)


def _reset_and_fine(core: Supervisor) -> None:
    core.reset(NOW)
    core.on_controller(False, ControllerFault.NONE, NOW)


INPUTS: dict[str, Callable[[Supervisor], Any]] = {
    "begin": begin,
    "cancel": lambda core: core.cancel(core.task, NOW) if core.task else None,
    "stop": lambda core: core.stop("button", NOW),
    "reset": lambda core: core.reset(NOW),
    "reset and controller fine": _reset_and_fine,
    "pause": lambda core: core.set_paused(True, "", NOW),
    "resume": lambda core: core.set_paused(False, "", NOW),
    "another instruction": lambda core: core.set_instruction("put it back", "", NOW),
    "slower": lambda core: core.set_speed(0.5, "", NOW),
    "success": _judge(Verdict.SUCCESS),
    "failure": _judge(Verdict.FAILURE),
    "undecided": _judge(Verdict.UNKNOWN),
    "time passes": lambda core: core.tick(200 * SECOND),
    "controller fine": _controller(False, ControllerFault.NONE),
    "controller stopped": _controller(True, ControllerFault.STOP_REQUESTED),
    "controller broken": _controller(True, ControllerFault.NUMERIC),
    "heartbeat lost": _controller(True, ControllerFault.HEARTBEAT_LOST),
    "recording": lambda core: core.on_recording("episode-1", NOW),
    "clock back": lambda core: core.tick(1 * SECOND),
    "operator holds on": lambda core: core.on_operator("pad", True, NOW),
    "operator lets go": lambda core: core.on_operator("pad", False, NOW),
    "another device": lambda core: core.on_operator("mouse", True, NOW),
    "detector: fine": lambda core: say(core, Decision.OK, NOW),
    "detector: stop": lambda core: say(core, Decision.STOP, NOW),
    "detector: back": lambda core: say(core, Decision.BACKTRACK, NOW),
    "detector: ask": lambda core: say(core, Decision.ASK_HELP, NOW),
    "detector: abstain": lambda core: say(core, Decision.ABSTAIN, NOW),
    "detector: of an older grant": lambda core: say(core, Decision.STOP, NOW, grant=core.grant - 1),
    "detector: to another": lambda core: say(core, Decision.STOP, NOW, boot_id=999),
}

TAKEN_FROM = {
    f"TELEOP, taken from {state.name}": state
    for state in (State.AUTONOMOUS, State.PAUSED, State.RECOVERING, State.ASKING)
}
WAITS = "IDLE, waits for the recorder"
SITUATIONS = (*(state.name for state in State), WAITS, *TAKEN_FROM)


def lead_to(situation: str, limits: Limits = LIMITS) -> Supervisor:
    """A supervisor that has been led into one of ``SITUATIONS``, at ``BEGAN``."""
    if situation == WAITS:
        limits = replace(limits, recorder_timeout=5.0)
    core = Supervisor(boot_id=1000, limits=limits)
    core.tick(BEGAN)
    before = TAKEN_FROM.get(situation)
    state = State.TELEOP if before is not None else State[situation.partition(",")[0]]
    towards = before or state
    if towards in (State.AUTONOMOUS, State.PAUSED, State.RECOVERING, State.ASKING) or (
        situation == WAITS
    ):
        core.begin(GOAL, BEGAN)
    if towards is State.RECOVERING:
        say(core, Decision.BACKTRACK, BEGAN)
    elif towards is State.ASKING:
        say(core, Decision.ABSTAIN, BEGAN)
    elif towards is State.PAUSED:
        core.set_paused(True, "hand in the way", BEGAN)
    elif towards is State.FAULT:
        core.stop("button", BEGAN)
    if state is State.TELEOP:
        core.on_operator("pad", True, BEGAN)
    if core.state is not state:
        raise RuntimeError(f"{situation}: led to {core.state.name}")
    core.drain_events()
    return core


def outcome(situation: str, given: str) -> str:
    """State after an input, ", task ends" where it does; empty = all is as before."""
    core = lead_to(situation)
    before, had_task = core.state, core.task is not None
    INPUTS[given](core)
    said = core.state.name if core.state is not before else ""
    if had_task and core.task is None and core.state is State.TELEOP:
        return "task ends"
    return said


def table() -> str:
    """The table, as Markdown: a row for each situation that an input changes."""
    rows = ["| in | on | becomes |", "|---|---|---|"]
    for situation in SITUATIONS:
        found: dict[str, list[str]] = {}
        for given in INPUTS:
            if said := outcome(situation, given):
                found.setdefault(said, []).append(given)
        for said, givens in found.items():
            rows.append(f"| {situation} | {'; '.join(givens)} | {said} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
