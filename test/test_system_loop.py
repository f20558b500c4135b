# SPDX-License-Identifier: Apache-2.0
"""The closed loop over DDS: an episode on disk, processes killed mid-motion, stop and reset.

The policy traces a circle, so no checkpoint is needed; everything else is what `vla up` runs.
"""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from closed_loop import SOON, Watcher, assert_within_limits, position, seconds, speed
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from std_srvs.srv import Trigger

from vla_data import bag_info
from vla_msgs.action import RunTask
from vla_msgs.msg import ActionChunk, ControllerState, ControlOwner, Outcome
from vla_msgs.srv import SetPaused
from vla_nodes.node_tools import in_executor
from vla_nodes.supervision import exclusive
from vla_nodes.system.description import load_system
from vla_sim import arms

# A restart may take a while on a busy machine; a test has two of them at most.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def loop(circle: Watcher) -> Iterator[Watcher]:
    """The running system at rest and without a task, whatever a test did before."""
    circle.begin_at_rest()
    yield circle
    circle.end_task()
    if circle.owner is not None and circle.owner.state == ControlOwner.STATE_FAULT:
        circle.call(circle.reset, Trigger.Request())


def cancel(loop: Watcher, handle: object) -> None:
    """Ends a task and waits for its end."""
    in_executor(loop, handle.cancel_goal_async)  # type: ignore[attr-defined]
    loop.result(handle)


def assert_at_rest(loop: Watcher, duration: float = 0.5) -> None:
    """The arm stays where it is for a while."""
    began, here = len(loop.states), position(loop.state)
    loop.wait("states", lambda: len(loop.states) > began + 50 * duration)
    moved = max(np.linalg.norm(position(state) - here) for state in loop.states[began:])
    assert moved < 0.003, f"the arm has moved by {1e3 * moved:.1f} mm in a hold"


def beaten(loop: Watcher) -> float:
    """ROS time of the last heartbeat, s."""
    stamp = loop.owner.header.stamp
    return float(stamp.sec + 1e-9 * stamp.nanosec)


def test_an_episode_is_on_disk_with_every_topic_and_no_drops(loop: Watcher) -> None:
    handle = loop.start_task(time_limit=3.0)
    loop.wait_until_moving()
    published = {
        name
        for name, _ in loop.get_topic_names_and_types()
        if loop.count_publishers(name) and "/_" not in name  # hidden ones are not recorded
    }
    result = loop.result(handle)
    assert result.outcome.outcome == Outcome.FAILURE
    assert result.outcome.outcome_source == Outcome.SOURCE_TIMEOUT
    bag = loop.bags / result.episode_id
    loop.wait("metadata", (bag / "metadata.yaml").is_file)
    with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        assert published <= set(counts), f"missing: {published - set(counts)}"
        for topic in (
            "/clock",
            "/joint_states",
            "/tf",
            "/tf_static",
            "/robot_description",
            "/cameras/scene/image_raw",
            "/cameras/wrist/image_raw",
            "/policy/action_chunk",
            "/policy/features",
            "/controller/action_chunk",
            "/controller/state",
            "/control_owner",
            "/diagnostics",
            "/episode/events",
        ):
            assert counts[topic] > 0, topic
        chunks = [
            reader.deserialize(raw, connection.msgtype)
            for connection, _, raw in reader.messages()
            if connection.topic == "/controller/action_chunk"
        ]
        assert all(chunk.boot_id > 0 and chunk.grant > 0 for chunk in chunks)
    info = bag_info(bag)
    assert info["drops_count"] == 0, [t for t in info["topics"] if t["drops_count"]]
    assert info["outcome"] == "failure"
    assert info["outcome_source"] == "timeout"
    assert_within_limits(loop.states)


def test_killing_the_policy_brakes_to_a_hold_and_it_resumes(loop: Watcher) -> None:
    handle = loop.start_task()
    loop.wait_until_moving()
    loop.system.kill("policy")
    loop.wait_until_holding()
    assert_at_rest(loop)
    loop.wait("reported", lambda: loop.owner and "no chunk" in loop.owner.reason)
    loop.wait_until_moving()
    assert_within_limits(loop.states)
    assert loop.owner is not None
    assert loop.owner.state == ControlOwner.STATE_AUTONOMOUS
    cancel(loop, handle)


def test_killing_the_supervisor_holds_and_only_the_new_one_is_obeyed(loop: Watcher) -> None:
    loop.start_task()
    loop.wait_until_moving()
    assert loop.owner is not None
    old_boot, old_chunk = loop.owner.boot_id, loop.granted[-1]
    loop.system.kill("supervisor")
    loop.wait_until_holding()
    assert_at_rest(loop)
    loop.wait("new supervisor", lambda: loop.owner.boot_id > old_boot)
    loop.wait("accepted", lambda: loop.state.boot_id == loop.owner.boot_id)
    rejected = loop.state.chunks_rejected
    # A command of the old supervisor that is fresh in every other respect.
    old_chunk.header.stamp = loop.state.header.stamp
    old_chunk.sequence += 1
    loop.stray.publish(old_chunk)
    loop.wait("rejected", lambda: loop.state.chunks_rejected > rejected)
    assert loop.state.last_reject_reason == ControllerState.REJECT_OLD_GRANT
    assert_at_rest(loop)
    handle = loop.start_task()
    loop.wait_until_moving()
    assert_within_limits(loop.states)
    cancel(loop, handle)


def test_a_stopped_supervisor_holds_the_arm_within_its_timeout_and_may_go_on(loop: Watcher) -> None:
    handle = loop.start_task()
    loop.wait_until_moving()
    assert loop.owner is not None
    timeout = load_system("sim_franka").entry("sim_node").values()["heartbeat_timeout"]
    pid = loop.system.process("supervisor").pid
    os.kill(pid, signal.SIGSTOP)
    try:
        held = loop.wait(
            "revoked",
            lambda: next(
                (s for s in list(loop.states) if seconds(s) > beaten(loop) and not s.sequence), None
            ),
        )
        # Not because the chunk has run out: then it would still be the one that is followed.
        assert timeout - 0.05 < seconds(held) - beaten(loop) < timeout + 0.4
        loop.wait_until_holding()
        assert_at_rest(loop)
    finally:
        os.kill(pid, signal.SIGCONT)
    loop.wait_until_moving()
    assert_within_limits(loop.states)
    cancel(loop, handle)


def move(domain: int, *arguments: str) -> subprocess.Popen[str]:
    """`vla move`, started."""
    return subprocess.Popen(
        [sys.executable, "-m", "vla_nodes.commands.cli", "move", *arguments],
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str], code: int) -> str:
    """What a command printed before it ended as expected."""
    out, err = process.communicate(timeout=SOON)
    assert process.returncode == code, out + err
    return " ".join((out + err).split())


def test_vla_move_goes_to_a_joint_target_and_home(loop: Watcher, domain: int) -> None:
    start = np.array(loop.state.q)
    text = told(move(domain, "--joints", "panda_joint1=0.3", "panda_joint4=-2.2"), 0)
    assert "panda_joint1:" in text
    assert "done:" in text
    loop.wait_until_holding()
    # What friction leaves of the soft nullspace: 0.2 Nm over 10 Nm/rad.
    np.testing.assert_allclose(loop.state.q[0], 0.3, atol=0.04)
    np.testing.assert_allclose(loop.state.q[3], -2.2, atol=0.04)
    told(move(domain, "home"), 0)
    loop.wait_until_holding()
    home = arms.find("panda").home
    np.testing.assert_allclose(loop.state.q, home, atol=0.04)
    assert np.abs(start - home).max() < 0.5, "as the scene lays it"
    velocities = np.array([state.dq for state in loop.states])
    assert (np.abs(velocities).max(axis=0) < 0.3 * arms.find("panda").limits.velocity).all()
    assert_within_limits(loop.states)
    loop.wait("idle", lambda: loop.owner.state == ControlOwner.STATE_IDLE)


def test_vla_move_names_a_bad_target_and_moves_nothing(loop: Watcher, domain: int) -> None:
    grant = loop.owner.grant if loop.owner else 0
    assert "valid range: [-2.8" in told(move(domain, "--joints", "panda_joint1=9"), 1)
    assert loop.owner is not None
    assert loop.owner.grant == grant


def test_vla_move_does_not_take_the_arm_from_a_task(loop: Watcher, domain: int) -> None:
    handle = loop.start_task()
    loop.wait_until_moving()
    assert "the arm is not free" in told(move(domain, "home"), 1)
    assert loop.owner is not None
    assert loop.owner.state == ControlOwner.STATE_AUTONOMOUS
    cancel(loop, handle)


@pytest.mark.parametrize("how", ["killed", "interrupted", "stopped"])
def test_a_move_that_is_cut_off_brakes_to_a_hold(loop: Watcher, domain: int, how: str) -> None:
    loop.wait_until_holding()
    aim = 0.8 if loop.state.q[0] < 0.0 else -0.8
    process = move(domain, "--joints", f"panda_joint1={aim}")
    loop.wait("moving", lambda: speed(loop.state) > 0.1)
    request = RunTask.Goal(instruction="trace a circle", time_limit=SOON)
    goal = in_executor(loop, lambda: loop.run_task.send_goal_async(request))
    assert not loop.wait("answer", lambda: goal.result() if goal.done() else None).accepted
    if how == "stopped":
        loop.call(loop.stop, Trigger.Request())
        text = told(process, 1)
        assert "lost the arm" in text or "in FAULT" in text  # whichever it hears first
        loop.wait("rest", lambda: speed(loop.state) < 0.005)
    else:
        process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGINT)
        process.communicate(timeout=SOON)
        loop.wait_until_holding()
        loop.wait("idle", lambda: loop.owner.state == ControlOwner.STATE_IDLE)
    assert abs(loop.state.q[0] - aim) > 0.1, "it had not arrived"
    assert_at_rest(loop)
    assert_within_limits(loop.states)


def test_killing_a_camera_stops_the_inference_by_name_and_it_resumes(loop: Watcher) -> None:
    handle = loop.start_task()
    loop.wait_until_moving()
    loop.system.kill("camera")
    loop.wait("named", lambda: "camera 'scene'" in loop.health["/policy"][1])
    sent = len(loop.granted)
    loop.wait_until_holding()
    assert_at_rest(loop)
    assert len(loop.granted) <= sent + 1, "no chunk may come of an old picture"
    loop.wait_until_moving()
    assert_within_limits(loop.states)
    cancel(loop, handle)


def test_anyone_may_stop_and_only_a_reset_releases(loop: Watcher) -> None:
    handle = loop.start_task()
    loop.wait_until_moving()
    assert loop.call(loop.stop, Trigger.Request()).success
    result = loop.result(handle)
    assert result.outcome.outcome == Outcome.ABORTED
    assert result.outcome.outcome_source == Outcome.SOURCE_OPERATOR
    loop.wait("fault", lambda: loop.state.phase == ControllerState.PHASE_FAULT)
    assert loop.state.fault == ControllerState.FAULT_STOP_REQUESTED
    loop.wait("rest", lambda: speed(loop.state) < 0.005)
    request = RunTask.Goal(instruction="trace a circle", time_limit=SOON)
    goal = in_executor(loop, lambda: loop.run_task.send_goal_async(request))
    refused = loop.wait("answer", lambda: goal.result() if goal.done() else None)
    assert not refused.accepted, "a stopped arm takes no task"
    assert_at_rest(loop)
    assert loop.call(loop.reset, Trigger.Request()).success
    loop.wait("idle", lambda: loop.owner.state == ControlOwner.STATE_IDLE)
    loop.wait("released", lambda: loop.state.phase == ControllerState.PHASE_HOLDING)
    handle = loop.start_task()
    loop.wait_until_moving()
    cancel(loop, handle)


def test_a_stop_at_the_controller_is_seen_by_the_supervisor(loop: Watcher) -> None:
    handle = loop.start_task()
    loop.wait_until_moving()
    assert loop.call(loop.controller_stop, Trigger.Request()).success
    assert loop.result(handle).outcome.outcome_source == Outcome.SOURCE_OPERATOR
    loop.wait("fault", lambda: loop.owner.state == ControlOwner.STATE_FAULT)


def test_a_pause_holds_and_a_new_goal_preempts(loop: Watcher) -> None:
    handle = loop.start_task()
    loop.wait_until_moving()
    assert loop.call(loop.pause, SetPaused.Request(paused=True, reason="hand")).success
    loop.wait_until_holding()
    assert_at_rest(loop)
    assert loop.call(loop.pause, SetPaused.Request(paused=False)).success
    loop.wait_until_moving()
    second = loop.start_task()
    assert loop.result(handle).outcome.outcome == Outcome.PREEMPTED
    loop.wait_until_moving()
    cancel(loop, second)
    loop.wait_until_holding()
    assert_within_limits(loop.states)


def spoiled(good: ActionChunk) -> dict[str, ActionChunk]:
    """Reason to a chunk that is wrong in one respect, and has the grant in force."""
    bad = {
        name: copy.deepcopy(good)
        for name in (
            *("NOT_FINITE", "BAD_QUATERNION", "WRONG_FRAME", "BAD_STEP", "STALE", "FUTURE"),
            *("TOO_LONG", "BAD_SHAPE", "WRONG_LENGTH", "OUT_OF_WORKSPACE", "UNSUPPORTED_MODE"),
        )
    }
    bad["NOT_FINITE"].poses[3].position.z = float("nan")
    bad["BAD_QUATERNION"].poses[0].orientation.w += 0.5
    bad["WRONG_FRAME"].header.frame_id = "map"
    bad["BAD_STEP"].step_dt = 0.0
    bad["STALE"].header.stamp.sec -= 2
    bad["FUTURE"].header.stamp.sec += 2
    bad["TOO_LONG"].poses = [good.poses[0]] * 65
    bad["WRONG_LENGTH"].gripper_opening = [0.0]
    bad["OUT_OF_WORKSPACE"].poses[-1].position.x = 3.0
    bad["UNSUPPORTED_MODE"].mode = ActionChunk.MODE_TWIST
    bad["BAD_SHAPE"].mode, bad["BAD_SHAPE"].poses = ActionChunk.MODE_JOINT_POSITION, []
    bad["BAD_SHAPE"].joint_names = [f"elbow_{i}" for i in range(7)]
    bad["BAD_SHAPE"].joint_values = [0.1] * 7
    bad["BAD_SHAPE"].gripper_opening = bad["TOO_LONG"].gripper_opening = []
    return bad


def test_chunks_that_are_wrong_are_rejected_by_name_and_change_nothing(loop: Watcher) -> None:
    handle = loop.start_task()
    loop.wait_until_moving()
    ours = 1_000_000  # from here on sequences are those of this test

    def rejected(reason: str) -> int:
        return int(loop.health["/sim"][2].get(f"rejected: {reason}", 0))

    def next_chunk() -> ActionChunk:
        chunk = next(c for c in reversed(loop.granted) if c.sequence < ours)
        chunk = copy.deepcopy(chunk)
        chunk.header.stamp, chunk.sequence = loop.state.header.stamp, ours + len(loop.granted)
        return chunk

    def is_rejected(reason: str, before: int) -> bool:
        # Sent again and again: on a busy machine the grant may change while one is under way.
        loop.stray.publish(spoiled(next_chunk())[reason])
        return rejected(reason) > before

    for reason in spoiled(next_chunk()):
        before = rejected(reason)
        loop.wait(reason, lambda r=reason, n=before: is_rejected(r, n))
    loop.wait_until_moving()
    assert_within_limits(loop.states)
    # The same chunk, with nothing wrong, is taken: it was the fault that has counted.

    def is_taken() -> bool:
        loop.stray.publish(next_chunk())
        return any(state.sequence >= ours for state in list(loop.states)[-50:])

    loop.wait("taken", is_taken)
    cancel(loop, handle)


def test_a_second_system_in_the_same_domain_is_refused(
    loop: Watcher, domain: int, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vla_nodes.commands.cli", "up", "sim_franka", "--episodes", "1"],
        cwd=tmp_path,
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    assert done.returncode == 1
    assert "another supervisor runs" in " ".join(done.stderr.split())


def test_a_second_supervisor_in_the_same_domain_is_refused(loop: Watcher, domain: int) -> None:
    def supervisor(in_domain: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "vla_nodes.supervisor_node"],
            env={**os.environ, "ROS_DOMAIN_ID": str(in_domain)},
            stderr=subprocess.PIPE,
            text=True,
        )

    second = supervisor(domain)
    assert "another supervisor runs" in second.communicate(timeout=SOON)[1]
    assert second.returncode == 1
    # The control: the same in a domain where none runs stays until it is told to end.
    elsewhere = domain + 1
    free = supervisor(elsewhere)
    loop.wait("taken", lambda: exclusive.is_held("/control_owner", elsewhere))
    free.send_signal(signal.SIGINT)
    assert free.wait(SOON) == 0
    assert not exclusive.is_held("/control_owner", elsewhere)


def test_the_limits_check_itself_can_fail(loop: Watcher) -> None:
    loop.wait("states", lambda: len(loop.states) > 50)
    states = list(loop.states)
    assert_within_limits(states)
    times = np.array([seconds(state) for state in states])
    jump = int(np.flatnonzero(np.diff(times) < 0.03)[-1]) + 1
    for state in states[jump:]:
        state.reference_pose_tool_in_base.position.x += 0.05
    with pytest.raises(AssertionError):
        assert_within_limits(states)
