# SPDX-License-Identifier: Apache-2.0
"""The task under way is changed without ending it: its instruction and its speed, over DDS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from closed_loop import SOON, Watcher, assert_within_limits, seconds

from vla_data.episode_reader import EpisodeReader
from vla_msgs.msg import ControlOwner, EpisodeEvent
from vla_msgs.srv import SetSpeed

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def loop(circle: Watcher) -> Iterator[Watcher]:
    """The running system, under way with a task."""
    circle.begin_at_rest()
    circle.start_task()
    circle.wait_until_moving()
    yield circle
    circle.end_task()
    circle.wait("idle", lambda: circle.owner.state == ControlOwner.STATE_IDLE)


def vla(domain: int, *words: str) -> subprocess.CompletedProcess[str]:
    """What the command line says."""
    return subprocess.run(
        [sys.executable, "-m", "vla_nodes.commands.cli", *words],
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )


def reference_speed(loop: Watcher) -> float:
    """Of the tool, the median over two seconds of ROS time from now on, m/s."""
    began = len(loop.states)
    until = seconds(loop.state) + 2.0
    loop.wait("two seconds", lambda: seconds(loop.state) > until)
    twists = [state.reference_twist_tool_in_base.linear for state in loop.states[began:]]
    return float(np.median([np.linalg.norm([v.x, v.y, v.z]) for v in twists]))


def test_the_policy_goes_on_slower_and_as_fast_again(loop: Watcher, domain: int) -> None:
    grant = loop.owner.grant
    full = reference_speed(loop)
    client = loop.create_client(SetSpeed, "supervisor/set_speed")
    granted = len(loop.granted)
    assert loop.call(client, SetSpeed.Request(speed=0.5, reason="slower")).success
    loop.wait("told", lambda: loop.owner.speed == 0.5)
    repeated = loop.wait("sent again", lambda: loop.granted[granted:])[0]
    assert (repeated.sequence, repeated.step_dt) == (0, 0.1), "at once, not with the next chunk"
    assert 0.4 * full < reference_speed(loop) < 0.6 * full
    numbered = [chunk for chunk in loop.granted[granted:] if chunk.sequence]
    apart = np.diff(
        [chunk.header.stamp.sec + 1e-9 * chunk.header.stamp.nanosec for chunk in numbered]
    )
    assert float(np.median(apart)) > 0.6, "8 of the policy's steps"
    refused = loop.call(client, SetSpeed.Request(speed=2.0))
    assert not refused.success
    assert "valid: 0.25 to 1" in refused.message
    done = vla(domain, "speed", "1")
    assert done.returncode == 0, done.stderr
    assert 0.8 * full < reference_speed(loop) < 1.2 * full
    assert loop.owner.grant == grant, "nobody had to hand over anything"
    assert_within_limits(loop.states)


def test_the_instruction_is_replaced_and_recorded_in_the_same_episode(
    loop: Watcher, domain: int
) -> None:
    episode, number, grant = loop.owner.episode_id, loop.owner.instruction_id, loop.owner.grant
    refused = vla(domain, "instruct", "trace a circle")
    assert refused.returncode == 1
    assert "in force already" in refused.stderr
    done = vla(domain, "instruct", "trace it again")
    assert done.returncode == 0, done.stderr
    loop.wait("told", lambda: loop.owner.instruction == "trace it again")
    assert (loop.owner.episode_id, loop.owner.instruction_id) == (episode, number + 1)
    assert loop.owner.state == ControlOwner.STATE_AUTONOMOUS
    new = loop.wait(
        "a chunk under it", lambda: [one for one in loop.granted if one.instruction_id > number]
    )
    assert all(one.grant > grant for one in new), "and none under the old one passes with it"
    assert all(one.instruction_id > number for one in loop.granted if one.grant > grant)
    loop.wait_until_moving()
    loop.end_task()
    assert_within_limits(loop.states)
    bag = loop.bags / episode
    loop.wait("metadata", (bag / "metadata.yaml").is_file)
    with EpisodeReader(bag) as reader:
        events = [one.message for one in reader.messages([reader.find_topic("episode/events")])]
        owners = [one.message for one in reader.messages([reader.find_topic("control_owner")])]
    told = [one.text for one in events if one.event == EpisodeEvent.INSTRUCTION]
    assert told == ["trace it again"]
    said = [one.instruction for one in owners if one.episode_id == episode]
    assert sorted(set(said), key=said.index) == ["trace a circle", "trace it again"]
