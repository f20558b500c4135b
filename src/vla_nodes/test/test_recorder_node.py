# SPDX-License-Identifier: Apache-2.0
"""recorder_node, its callbacks called one by one: a full disk, ids that pass by, many talkers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from tf2_msgs.msg import TFMessage

from vla_data import EpisodeReader
from vla_data.synchronisation import NS_PER_S
from vla_msgs.msg import ActionChunk, EpisodeEvent, FailureStatus
from vla_nodes.commands.bench_record import domain
from vla_nodes.node_tools import ERROR, LATCHED, RELIABLE, WARN
from vla_nodes.recorder_node import Input, RecorderNode

ENOUGH, WARNED, FULL = 10_000, 500, 50  # bytes free


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., RecorderNode]]:
    """Makes an active recorder with parameters."""
    nodes = []
    (tmp_path / "scene.yaml").write_text("k: 1")

    def node(**parameters: Any) -> RecorderNode:
        values = {
            "directory": tmp_path / "bags",
            "required_topics": '[""]',
            "disk_warn_bytes": 1000,
            "disk_stop_bytes": 100,
            "calibration_files": f"[{tmp_path / 'scene.yaml'}]",
            **parameters,
        }
        arguments = [one for name, v in values.items() for one in ("-p", f"{name}:={v}")]
        rclpy.init(args=["--ros-args", *arguments], domain_id=domain())
        nodes.append(RecorderNode())
        assert nodes[-1].trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert nodes[-1].trigger_activate() == TransitionCallbackReturn.SUCCESS
        tell = nodes[-1]._tell
        nodes[-1].told = []

        def note(episode_id: str, kind: int, text: str) -> None:
            nodes[-1].told.append((kind, text))
            tell(episode_id, kind, text)

        nodes[-1]._tell = note
        return nodes[-1]

    yield node
    for one in nodes:
        one.close()
        one.destroy_node()
    rclpy.shutdown()


def start(node: RecorderNode) -> None:
    node._on_event(EpisodeEvent(event=EpisodeEvent.START, episode_id="one", task="pick"))


def reader_of(node: RecorderNode) -> EpisodeReader:
    node._episodes.join(10.0)
    return EpisodeReader(Path(node.config.directory) / "one")


def wait(node: RecorderNode, reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 20.0
    while not reached() and time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.02)
    assert reached()


def test_a_disk_that_fills_up_ends_the_bag_cleanly(
    make: Callable[..., RecorderNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make()
    disk = node._episodes.disk
    monkeypatch.setattr(disk, "free_bytes", lambda: ENOUGH)
    start(node)
    node._check_gate()
    node._check_disk()
    assert node._health()[0] not in (WARN, ERROR)
    monkeypatch.setattr(disk, "free_bytes", lambda: WARNED)
    node._check_disk()
    assert node._episodes.writer is not None
    assert node._health()[0] == WARN
    monkeypatch.setattr(disk, "free_bytes", lambda: FULL)
    node._check_disk()
    assert node._episodes.writer is None
    assert node.told[-1][0] == EpisodeEvent.NOTE
    assert "the recording is ended: 0 MB are left" in node.told[-1][1]
    level, message, _ = node._health()
    assert level == ERROR
    assert "nothing can be recorded" in message
    with reader_of(node) as reader:
        assert reader.finished
        assert "the recording is ended" in reader.outcome.message
        assert "the recording is ended" in reader.info.notes["note_1"]
    start(node)
    assert node._episodes.writer is None, "no episode begins"
    assert node.told[-1][1].startswith("cannot record: 0 MB are left")


def test_what_passes_by_tells_the_ids_and_the_notes(make: Callable[..., RecorderNode]) -> None:
    node = make(name_pattern="'{episode_id}'", preroll=5.0)
    start(node)

    def arrives(topic: str, message: Any, type_name: str) -> None:
        one = Input(topic, f"vla_msgs/msg/{type_name}", type(message), None, False)
        info = {"publication_sequence_number": 1, "received_timestamp": 0}
        node._on_message(one, serialize_message(message), info)

    arrives("/policy/action_chunk", ActionChunk(policy_id="nano:7"), "ActionChunk")
    status = FailureStatus(detector_id="fused:1", calibration_id="c:2")
    arrives("/failure/status", status, "FailureStatus")
    note = EpisodeEvent(event=EpisodeEvent.NOTE, episode_id="one", text="the cube was wet")
    arrives("/episode/events", note, "EpisodeEvent")
    note.episode_id = "another"
    arrives("/episode/events", note, "EpisodeEvent")
    node.close()
    with reader_of(node) as reader:
        info = reader.info
    assert info.policy_id == "nano:7"
    assert info.notes == {"note_1": "the cube was wet"}
    assert info.calibrations.pop("scene.yaml").startswith("sha256:")
    assert info.calibrations == {"failure_detector": "fused:1", "failure_calibration": "c:2"}
    assert info.versions["vla_nodes"]


def test_of_a_topic_with_several_publishers_all_is_kept_and_nothing_counted_as_lost(
    make: Callable[..., RecorderNode],
) -> None:
    node = make(name_pattern="'{episode_id}'")
    talkers = [rclpy.create_node(name) for name in ("camera", "robot")]
    latched = [one.create_publisher(TFMessage, "/tf_static", LATCHED) for one in talkers]
    moving = [one.create_publisher(TFMessage, "/tf", RELIABLE) for one in talkers]

    def taken(topic: str) -> list[int]:
        return sorted(node._watch._last.get(topic, []))

    for one, name in zip(latched, ("camera", "tool"), strict=True):
        one.publish(TFMessage(transforms=[TransformStamped(child_frame_id=name)]))
    wait(node, lambda: taken("/tf_static") == [1, 1])
    wait(node, lambda: all(one.get_subscription_count() == 1 for one in moving))
    for _ in range(50):
        moving[0].publish(TFMessage())
    wait(node, lambda: taken("/tf") == [50])
    node._on_event(EpisodeEvent(event=EpisodeEvent.START, episode_id="one"))
    for number in range(1, 4):
        for one in moving:
            one.publish(TFMessage())
        wait(node, lambda number=number: taken("/tf") == [number, 50 + number])
    node.close()
    for one in talkers:
        one.destroy_node()
    with reader_of(node) as reader:
        assert reader.drops is not None
        assert not any(reader.drops.values())
        messages = [one.message for one in reader.messages(["/tf_static"])]
        assert {one.transforms[0].child_frame_id for one in messages} == {"camera", "tool"}
        assert reader.topics["/tf"].count == 6


def test_what_arrives_before_simulated_time_has_begun_waits_for_it(
    make: Callable[..., RecorderNode],
) -> None:
    node = make(name_pattern="'{episode_id}'", preroll=5.0, use_sim_time=True)
    talker = rclpy.create_node("talker")
    events = talker.create_publisher(EpisodeEvent, "/episode/events", LATCHED)
    clock = talker.create_publisher(Clock, "/clock", LATCHED)
    events.publish(EpisodeEvent(event=EpisodeEvent.START, episode_id="one"))
    wait(node, lambda: events.get_subscription_count() > 0)
    assert events.wait_for_all_acked(Duration(seconds=20))
    node._take()
    assert node._episodes.writer is None
    assert node._health()[:2] == (WARN, "waits for /clock")
    clock.publish(Clock(clock=Time(sec=100)))
    wait(node, lambda: node._episodes.writer is not None)
    node.close()
    talker.destroy_node()
    with reader_of(node) as reader:
        assert reader.start_ns is not None
        assert reader.start_ns > 50 * NS_PER_S
