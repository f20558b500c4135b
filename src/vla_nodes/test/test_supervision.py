# SPDX-License-Identifier: Apache-2.0
"""Laws of the supervisor's state machine."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_nodes.supervision.machine import Limits, Supervisor
from vla_nodes.supervision.table import (
    GOAL,
    INPUTS,
    LIMITS,
    NOW,
    SITUATIONS,
    TAKEN_FROM,
    WAITS,
    lead_to,
    table,
)
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

# Everything that is not listed leaves the state as it is.
TRANSITIONS = {
    (State.IDLE, "begin"): State.AUTONOMOUS,
    (State.IDLE, "stop"): State.FAULT,
    (State.IDLE, "controller stopped"): State.FAULT,
    (State.IDLE, "controller broken"): State.FAULT,
    (State.AUTONOMOUS, "cancel"): State.IDLE,
    (State.AUTONOMOUS, "stop"): State.FAULT,
    (State.AUTONOMOUS, "pause"): State.PAUSED,
    (State.AUTONOMOUS, "success"): State.IDLE,
    (State.AUTONOMOUS, "failure"): State.IDLE,
    (State.AUTONOMOUS, "time passes"): State.IDLE,
    (State.AUTONOMOUS, "controller stopped"): State.FAULT,
    (State.AUTONOMOUS, "controller broken"): State.FAULT,
    (State.AUTONOMOUS, "clock back"): State.IDLE,
    (State.PAUSED, "begin"): State.AUTONOMOUS,
    (State.PAUSED, "cancel"): State.IDLE,
    (State.PAUSED, "stop"): State.FAULT,
    (State.PAUSED, "resume"): State.AUTONOMOUS,
    (State.PAUSED, "success"): State.IDLE,
    (State.PAUSED, "failure"): State.IDLE,
    (State.PAUSED, "controller stopped"): State.FAULT,
    (State.PAUSED, "controller broken"): State.FAULT,
    (State.PAUSED, "clock back"): State.IDLE,
    (State.AUTONOMOUS, "detector: stop"): State.FAULT,
    (State.AUTONOMOUS, "detector: back"): State.RECOVERING,
    (State.AUTONOMOUS, "detector: ask"): State.ASKING,
    (State.AUTONOMOUS, "detector: abstain"): State.ASKING,
    (State.RECOVERING, "cancel"): State.IDLE,
    (State.RECOVERING, "stop"): State.FAULT,
    (State.RECOVERING, "pause"): State.ASKING,
    (State.RECOVERING, "success"): State.IDLE,
    (State.RECOVERING, "failure"): State.IDLE,
    (State.RECOVERING, "controller stopped"): State.FAULT,
    (State.RECOVERING, "controller broken"): State.FAULT,
    (State.RECOVERING, "time passes"): State.ASKING,  # the controller is silent by then
    (State.RECOVERING, "clock back"): State.IDLE,
    (State.ASKING, "cancel"): State.IDLE,
    (State.ASKING, "stop"): State.FAULT,
    (State.ASKING, "reset"): State.IDLE,
    (State.ASKING, "success"): State.IDLE,
    (State.ASKING, "failure"): State.IDLE,
    (State.ASKING, "controller stopped"): State.FAULT,
    (State.ASKING, "controller broken"): State.FAULT,
    (State.ASKING, "clock back"): State.IDLE,
    (State.TELEOP, "operator lets go"): State.IDLE,
    (State.TELEOP, "stop"): State.FAULT,
    (State.TELEOP, "controller stopped"): State.FAULT,
    (State.TELEOP, "controller broken"): State.FAULT,
    (State.TELEOP, "time passes"): State.IDLE,  # the device is silent by then
    (State.TELEOP, "clock back"): State.IDLE,
    (State.ASKING, "reset and controller fine"): State.IDLE,
    (State.FAULT, "reset and controller fine"): State.IDLE,
    **{
        (state, given): State.TELEOP
        for state in State
        for given in ("operator holds on", "another device")
        if state not in (State.TELEOP, State.FAULT)
    },
}

# What a device that has taken the arm from a task leaves when it lets go, and when it falls silent.
AFTERWARDS = {
    State.AUTONOMOUS: (State.AUTONOMOUS, State.PAUSED),
    State.PAUSED: (State.PAUSED, State.PAUSED),
    State.RECOVERING: (State.ASKING, State.ASKING),
    State.ASKING: (State.ASKING, State.ASKING),
}


def assert_lawful(core: Supervisor) -> None:
    """What holds in every state."""
    assert (core.owner is Owner.POLICY) == (core.state is State.AUTONOMOUS)
    assert (core.owner is Owner.OPERATOR) == (core.state is State.TELEOP)
    assert (core.owner is Owner.RECOVERY) == (core.state is State.RECOVERING)
    if core.state in (State.AUTONOMOUS, State.PAUSED, State.RECOVERING, State.ASKING):
        assert core.task is not None
    if core.state is State.FAULT:
        assert core.task is None


def expected(situation: str, given: str) -> State:
    """The state that an input must lead to."""
    taken_from = TAKEN_FROM.get(situation)
    if taken_from is not None and given in ("operator lets go", "time passes"):
        return AFTERWARDS[taken_from][given == "time passes"]
    if situation == WAITS and given in ("begin", "recording"):
        return State.IDLE if given == "begin" else State.AUTONOMOUS
    if situation == WAITS and given in ("operator holds on", "another device"):
        return State.IDLE
    state = lead_to(situation).state
    return TRANSITIONS.get((state, given), state)


@pytest.mark.parametrize(("situation", "given"), list(itertools.product(SITUATIONS, INPUTS)))
def test_every_input_in_every_situation(situation: str, given: str) -> None:
    core = lead_to(situation)
    grant, state = core.grant, core.state
    INPUTS[given](core)
    assert core.state is expected(situation, given)
    if core.state is not state:
        assert core.grant > grant, "a change of hands must draw a new grant"
    assert_lawful(core)


def test_the_table_in_the_docs_is_the_one_that_holds() -> None:
    page = Path(__file__).parents[3] / "docs" / "supervision.md"
    assert table() in page.read_text(encoding="utf-8"), (
        "docs/supervision.md: `python -m vla_nodes.supervision.table` prints what it must hold"
    )


def test_only_a_reset_leaves_fault_and_only_after_the_controller_has() -> None:
    core = lead_to("FAULT")
    core.on_controller(False, ControllerFault.NONE, NOW)
    assert core.state is State.FAULT, "nobody has asked for a reset"
    assert core.reset(NOW)
    assert core.controller_reset_wanted
    assert core.state is State.FAULT, "the controller has not left its fault yet"
    core.on_controller(True, ControllerFault.STOP_REQUESTED, NOW)
    assert core.state is State.FAULT
    core.on_controller(False, ControllerFault.NONE, NOW)
    assert core.state is State.IDLE


def test_a_stop_during_a_reset_wins() -> None:
    core = lead_to("FAULT")
    core.reset(NOW)
    core.stop("again", NOW)
    core.on_controller(False, ControllerFault.NONE, NOW)
    assert core.state is State.FAULT


def test_lost_heartbeat_is_released_by_the_supervisor_itself_but_a_stop_is_not() -> None:
    core = lead_to("IDLE")
    core.on_controller(True, ControllerFault.HEARTBEAT_LOST, NOW)
    assert core.controller_reset_wanted
    stopped = lead_to("IDLE")
    stopped.on_controller(True, ControllerFault.STOP_REQUESTED, NOW)
    assert not stopped.controller_reset_wanted


def chunk(
    core: Supervisor, stamp_ns: int, sequence: int = 1, instruction_id: int = 1
) -> Drop | None:
    return core.on_chunk(ChunkInfo(stamp_ns, sequence, instruction_id), stamp_ns)


def test_chunks_pass_only_under_the_grant_and_instruction_in_force() -> None:
    core = lead_to("AUTONOMOUS")
    assert chunk(core, 100 * SECOND - 1) is Drop.BEFORE_GRANT
    assert chunk(core, 101 * SECOND, instruction_id=2) is Drop.OTHER_INSTRUCTION
    assert chunk(core, 101 * SECOND) is None
    assert core.counters.forwarded == 1
    core.set_paused(True, "", NOW)
    assert chunk(core, 102 * SECOND, 2) is Drop.NOT_AUTONOMOUS
    core.set_paused(False, "", 103 * SECOND)
    assert chunk(core, 102 * SECOND, 3) is Drop.BEFORE_GRANT, "observed before the pause ended"
    assert chunk(core, 104 * SECOND, 4) is None


def test_a_restarted_policy_gets_a_new_grant() -> None:
    core = lead_to("AUTONOMOUS")
    assert chunk(core, 101 * SECOND, 40) is None
    grant = core.grant
    assert chunk(core, 102 * SECOND, 1) is None
    assert core.grant == grant + 1
    assert core.counters.policy_restarts == 1


def test_a_silent_policy_is_reported_and_welcomed_back() -> None:
    core = lead_to("AUTONOMOUS")
    assert chunk(core, 101 * SECOND, 1) is None
    core.tick(102 * SECOND)
    assert not core.policy_silent
    core.tick(103 * SECOND)
    assert core.policy_silent
    assert core.state is State.AUTONOMOUS
    assert "no chunk" in core.reason
    assert chunk(core, 103 * SECOND, 2) is None
    assert not core.policy_silent
    notes = [event.text for event in core.drain_events() if event.kind is EventKind.NOTE]
    assert notes[-1] == "the policy is back"


def test_outcome_says_who_decided() -> None:
    for lead, verdict, source in (
        (INPUTS["success"], Verdict.SUCCESS, Source.SIMULATOR),
        (INPUTS["time passes"], Verdict.FAILURE, Source.TIMEOUT),
        (INPUTS["stop"], Verdict.ABORTED, Source.OPERATOR),
        (INPUTS["cancel"], Verdict.CANCELED, Source.OPERATOR),
        (INPUTS["begin"], Verdict.PREEMPTED, Source.OPERATOR),
        (INPUTS["controller broken"], Verdict.ABORTED, Source.NONE),
    ):
        core = lead_to("AUTONOMOUS")
        task = core.task
        assert task is not None
        lead(core)
        assert task.outcome is not None
        assert (task.outcome.verdict, task.outcome.source) == (verdict, source)


@pytest.mark.parametrize(
    ("episode_id", "task", "stamp_ns"),
    [("other", "pick", NOW), ("episode-1", "push", NOW), ("episode-1", "pick", 99 * SECOND)],
)
def test_verdicts_of_other_episodes_tasks_or_times_do_not_count(
    episode_id: str, task: str, stamp_ns: int
) -> None:
    core = lead_to("AUTONOMOUS")
    core.judge(episode_id, task, stamp_ns, Verdict.SUCCESS, "", NOW)
    assert core.state is State.AUTONOMOUS


@pytest.mark.parametrize("task", [GOAL.task, ""])
@pytest.mark.parametrize("verdict", [Verdict.SUCCESS, Verdict.FAILURE])
def test_the_operator_judges_whatever_was_asked_for(task: str, verdict: Verdict) -> None:
    core = Supervisor(1, Limits())
    begun = core.begin(replace(GOAL, task=task), NOW)
    core.judge("another", task, NOW, verdict, "", NOW, Source.OPERATOR)
    core.judge(begun.episode_id, task, NOW, Verdict.UNKNOWN, "", NOW, Source.OPERATOR)
    assert begun.outcome is None
    core.judge(begun.episode_id, task, NOW, verdict, "it says", NOW, Source.OPERATOR)
    assert begun.outcome is not None
    assert begun.outcome.verdict is verdict
    assert begun.outcome.source is Source.OPERATOR


def test_nobody_but_the_operator_judges_a_free_instruction() -> None:
    core = Supervisor(1, Limits())
    begun = core.begin(replace(GOAL, task=""), NOW)
    core.judge(begun.episode_id, "", NOW, Verdict.SUCCESS, "", NOW)
    assert begun.outcome is None


def test_pauses_do_not_use_up_the_time_limit() -> None:
    core = lead_to("AUTONOMOUS")
    core.set_paused(True, "", 105 * SECOND)
    core.tick(150 * SECOND)
    assert core.state is State.PAUSED
    core.set_paused(False, "", 155 * SECOND)
    core.tick(159 * SECOND)
    assert core.state is State.AUTONOMOUS
    core.tick(161 * SECOND)
    assert core.state is State.IDLE


def test_the_episode_waits_for_the_recorder_and_names_what_is_missing() -> None:
    core = lead_to("IDLE", limits=Limits(recorder_timeout=5.0))
    task = core.begin(GOAL, NOW)
    assert core.state is State.IDLE
    core.on_recording("another", NOW)
    assert task.granted_ns is None
    core.on_recording("episode-1", NOW + SECOND)
    assert core.state is State.AUTONOMOUS
    assert task.granted_ns == NOW + SECOND

    again = lead_to("IDLE", limits=Limits(recorder_timeout=5.0))
    again.begin(GOAL, NOW)
    for tick in range(1, 31):
        again.tick(NOW + tick * SECOND // 10)
    starts = [event for event in again.drain_events() if event.kind is EventKind.START]
    assert len(starts) == 3, "repeated about once per second while no recorder answers"

    late = lead_to("IDLE", limits=Limits(recorder_timeout=5.0))
    task = late.begin(GOAL, NOW)
    late.on_recorder_note("no message on /cameras/wrist/image_raw")
    late.tick(NOW + 6 * SECOND)
    assert task.outcome is not None
    assert "/cameras/wrist/image_raw" in task.outcome.message
    assert task.outcome.source is Source.TIMEOUT


@pytest.mark.parametrize("goal", [Goal(" "), Goal("x", time_limit=0.0), Goal("x", time_limit=1e9)])
def test_bad_goals_are_refused_and_change_nothing(goal: Goal) -> None:
    core = lead_to("AUTONOMOUS")
    grant = core.grant
    with pytest.raises(ValueError):
        core.begin(goal, NOW)
    assert core.grant == grant
    assert core.task is not None


def test_no_goal_is_taken_before_ros_time_has_begun() -> None:
    core = Supervisor(1, LIMITS)
    with pytest.raises(ValueError, match="/clock"):
        core.begin(GOAL, 0)


def hold(core: Supervisor, device: str, begin: int, seconds: float) -> int:
    """A device is held enabled at 20 Hz and the core ticks; the time after that."""
    now = begin
    while now < begin + seconds * SECOND:
        core.on_operator(device, True, now)
        core.tick(now)
        now += SECOND // 20
    return now


def test_a_device_keeps_the_arm_as_long_as_it_is_held_and_no_longer() -> None:
    core = lead_to("IDLE")
    now = hold(core, "pad", NOW, 2.0)
    assert (core.state, core.owner, core.device) == (State.TELEOP, Owner.OPERATOR, "pad")
    grant = core.grant
    now = hold(core, "mouse", now, 0.2)
    assert (core.device, core.grant) == ("pad", grant), "it is taken"
    core.tick(now + SECOND // 5)
    assert core.state is State.IDLE
    assert core.grant > grant
    assert "silent" in core.reason
    now = hold(core, "pad", now + 2 * SECOND, 1.0)
    assert core.state is State.IDLE, "it comes back with the switch held, and has to let go first"
    core.on_operator("pad", False, now)
    core.on_operator("pad", True, now)
    assert core.state is State.TELEOP


def test_a_device_that_was_held_during_a_stop_has_to_let_go_first() -> None:
    core = lead_to("FAULT")
    now = hold(core, "pad", NOW, 1.0)
    assert core.state is State.FAULT
    core.reset(now)
    core.on_controller(False, ControllerFault.NONE, now)
    assert core.state is State.IDLE
    now = hold(core, "pad", now, 1.0)
    assert core.state is State.IDLE, "an arm must not start to move because a stop was released"
    core.on_operator("pad", False, now)
    core.on_operator("pad", True, now)
    assert core.state is State.TELEOP


def test_a_task_waits_while_the_operator_has_the_arm_and_its_clock_stands_still() -> None:
    core = lead_to("AUTONOMOUS")
    task, grant = core.task, core.grant
    assert core.on_chunk(ChunkInfo(NOW, 1, 1), NOW) is None
    now = hold(core, "pad", NOW, 60.0)
    assert (core.state, core.device, core.task) == (State.TELEOP, "pad", task)
    assert core.on_chunk(ChunkInfo(now, 2, 1), now) is Drop.NOT_AUTONOMOUS
    assert core.on_operator_chunk("pad", now) is None
    core.on_operator("pad", False, now)
    assert (core.state, core.task) == (State.AUTONOMOUS, task)
    assert core.grant == grant + 2
    assert core.on_chunk(ChunkInfo(now - 1, 3, 1), now) is Drop.BEFORE_GRANT, "seen before"
    assert core.on_chunk(ChunkInfo(now, 4, 1), now) is None
    core.tick(now + 8 * SECOND)
    assert core.task is task, "of 10 s it has used 9"
    core.tick(now + 10 * SECOND)
    assert core.task is None
    assert core.reason == "not done within 10 s"


def test_the_operator_says_whether_the_policy_goes_on() -> None:
    core = lead_to("TELEOP, taken from AUTONOMOUS")
    assert core.set_paused(True, "look first", NOW) == ""
    assert core.state is State.TELEOP
    core.on_operator("pad", False, NOW)
    assert core.state is State.PAUSED
    core.on_operator("pad", True, NOW)
    assert core.set_paused(False, "", NOW) == ""
    core.on_operator("pad", False, NOW)
    assert core.state is State.AUTONOMOUS
    core = lead_to("TELEOP, taken from ASKING")
    assert "nothing to resume" in core.set_paused(False, "", NOW)
    core = lead_to("TELEOP")
    assert "nothing to resume" in core.set_paused(False, "", NOW)


def test_a_device_that_falls_silent_does_not_give_the_arm_to_the_policy() -> None:
    core = lead_to("TELEOP, taken from AUTONOMOUS")
    core.tick(NOW)
    assert (core.state, core.reason) == (State.PAUSED, "pad is silent")
    core.on_operator("pad", True, NOW)
    assert core.state is State.PAUSED, "it has to let go first"
    core.set_paused(False, "", NOW)
    assert core.state is State.AUTONOMOUS


def test_a_question_stays_until_it_is_answered() -> None:
    core = lead_to("TELEOP, taken from ASKING")
    core.on_operator("pad", False, NOW)
    assert core.state is State.ASKING
    assert core.reason == "pad has let go; failure detector, ABSTAIN: because"


def test_a_task_may_end_in_the_operators_hands() -> None:
    core = lead_to("TELEOP, taken from AUTONOMOUS")
    grant = core.grant
    INPUTS["success"](core)
    assert (core.task, core.state, core.grant) == (None, State.TELEOP, grant), "not torn away"
    core.on_operator("pad", False, NOW)
    assert core.state is State.IDLE


def test_only_chunks_of_the_device_that_owns_the_arm_are_forwarded() -> None:
    core = lead_to("IDLE")
    assert core.on_operator_chunk("pad", NOW) is Drop.NOT_OPERATOR
    core.on_operator("pad", True, NOW)
    assert core.on_operator_chunk("mouse", NOW) is Drop.NOT_OPERATOR
    assert core.on_operator_chunk("pad", NOW - 1) is Drop.BEFORE_GRANT
    assert core.on_chunk(ChunkInfo(NOW, 1, 0), NOW) is Drop.NOT_AUTONOMOUS
    assert core.on_operator_chunk("pad", NOW) is None
    core.stop("button", NOW)
    assert core.on_operator_chunk("pad", NOW) is Drop.NOT_OPERATOR


def test_a_recorder_that_is_waited_for_is_not_an_arm_that_is_free() -> None:
    core = lead_to("IDLE", limits=Limits(recorder_timeout=5.0))
    core.begin(GOAL, NOW)
    assert core.state is State.IDLE
    core.on_operator("pad", True, NOW)
    assert core.state is State.IDLE


def test_no_goal_is_taken_while_the_operator_has_the_arm() -> None:
    core = lead_to("TELEOP")
    with pytest.raises(ValueError, match="pad"):
        core.begin(GOAL, NOW)
    assert core.state is State.TELEOP


def test_another_instruction_begins_anew_in_the_same_episode() -> None:
    core = lead_to("AUTONOMOUS")
    task, before, grant = core.task, core.instruction_id, core.grant
    assert task is not None
    assert core.on_chunk(ChunkInfo(NOW, 1, before), NOW) is None
    later = NOW + SECOND
    assert core.set_instruction("put it back", "", later) == ""
    assert (core.task, core.state, core.instruction) == (task, State.AUTONOMOUS, "put it back")
    assert (core.instruction_id, core.grant) == (before + 1, grant + 1)
    events = core.drain_events()
    assert [event.kind for event in events] == [EventKind.INSTRUCTION, EventKind.GRANT]
    assert events[0].text == "put it back"
    after = later + 1
    assert core.on_chunk(ChunkInfo(after, 2, before), after) is Drop.OTHER_INSTRUCTION
    assert core.on_chunk(ChunkInfo(later - 1, 2, before + 1), after) is Drop.BEFORE_GRANT
    assert core.on_chunk(ChunkInfo(after, 3, before + 1), after) is None
    core.judge("episode-1", "pick", after, Verdict.SUCCESS, "", after)
    assert core.task is task, "what the scene is judged by is not what is asked for any more"
    core.judge("episode-1", "", after, Verdict.SUCCESS, "", after, Source.OPERATOR)
    assert core.task is None


@pytest.mark.parametrize("situation", ["PAUSED", "ASKING", "RECOVERING", WAITS, *TAKEN_FROM])
def test_another_instruction_waits_for_the_policys_turn(situation: str) -> None:
    core = lead_to(situation)
    state, grant, before = core.state, core.grant, core.instruction_id
    assert core.set_instruction("put it back", "back", NOW) == ""
    assert (core.state, core.grant) == (state, grant), "nobody else loses the arm"
    assert core.instruction_id == before + 1
    assert core.task is not None
    assert (core.task.goal.task, core.task.episode_id) == ("back", "episode-1")


def test_an_instruction_that_cannot_be_replaced_says_why() -> None:
    core = lead_to("AUTONOMOUS")
    assert "empty" in core.set_instruction("  ", "", NOW)
    assert "in force already" in core.set_instruction(GOAL.instruction, GOAL.task, NOW)
    for situation in ("IDLE", "FAULT", "TELEOP"):
        assert "no task is in force" in lead_to(situation).set_instruction("x", "", NOW)
        assert "no task is in force" in lead_to(situation).set_speed(0.5, "", NOW)


def test_a_slower_policy_may_be_silent_for_longer_and_is_as_fast_as_ever_in_the_next_episode() -> (
    None
):
    core = lead_to("AUTONOMOUS")
    core.on_chunk(ChunkInfo(NOW, 1, core.instruction_id), NOW)
    assert core.set_speed(0.5, "slower", NOW) == ""
    assert "speed 0.5 slower" in [event.text for event in core.drain_events()]
    core.tick(NOW + 2 * SECOND)
    assert not core.policy_silent
    core.tick(NOW + 4 * SECOND)
    assert core.policy_silent
    assert "0.25 to 1" in core.set_speed(0.1, "", NOW + 4 * SECOND)
    assert "0.25 to 1" in core.set_speed(2.0, "", NOW + 4 * SECOND)
    assert core.policy_time.speed == 0.5
    core.set_paused(True, "", NOW + 4 * SECOND)
    core.set_paused(False, "", NOW + 5 * SECOND)
    assert core.policy_time.speed == 0.5, "it is the episode's"
    core.begin(replace(GOAL, episode_id="episode-2"), NOW + 5 * SECOND)
    assert core.policy_time.speed == 1.0


def test_boot_id_must_be_positive() -> None:
    with pytest.raises(ValueError, match="boot_id"):
        Supervisor(0, LIMITS)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*INPUTS, "chunk"]), st.integers(0, SECOND)), max_size=60)
)
def test_laws_hold_for_any_history(history: list[tuple[str, int]]) -> None:
    core = Supervisor(5, LIMITS)
    sequence, now, started, ended = 0, 100 * SECOND, 0, 0
    for given_input, wait in history:
        now += wait
        before = (core.grant, core.state)
        if given_input == "chunk":
            sequence += 1
            info = ChunkInfo(now, sequence, core.instruction_id)
            forwarded = core.on_chunk(info, now) is None
            assert not forwarded or before[1] is State.AUTONOMOUS
        else:
            INPUTS[given_input](core)
        assert core.grant >= before[0]
        assert core.grant > before[0] or core.state is before[1]
        assert_lawful(core)
        if before[1] is State.FAULT and core.state is not State.FAULT:
            assert given_input in ("controller fine", "reset and controller fine")
        kinds = [event.kind for event in core.drain_events()]
        started += kinds.count(EventKind.START)
        ended += kinds.count(EventKind.END)
        assert started - ended == (core.task is not None)
