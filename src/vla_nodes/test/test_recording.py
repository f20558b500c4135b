# SPDX-License-Identifier: Apache-2.0
"""The recorder's core: gate, latched topics, losses."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from rclpy.serialization import serialize_message
from std_msgs.msg import String

from vla_data import EpisodeInfo, EpisodeOutcome, EpisodeReader, QosProfile
from vla_data.episode_writer import MESSAGE_OVERHEAD_BYTES
from vla_nodes.commands import cli
from vla_nodes.recorder_node import is_hidden, message_class
from vla_nodes.recording.episodes import (
    DiskWatch,
    Episodes,
    Kept,
    PreRoll,
    ReceptionTimes,
    RecordingConfig,
    SequenceWatch,
    bag_name,
)

TYPE = "std_msgs/msg/String"
SECOND = 1_000_000_000
DATA = serialize_message(String(data="hello"))


@pytest.fixture
def episodes(tmp_path: Path) -> Episodes:
    made = Episodes(RecordingConfig(tmp_path / "bags", ("/a", "/b"), 1 << 24))
    for topic in ("/a", "/b", "/latched"):
        made.add_topic(topic, TYPE, [QosProfile()])
    return made


def test_the_gate_opens_once_when_all_required_topics_have_been_seen(episodes: Episodes) -> None:
    episodes.take("/a", TYPE, DATA, 1)
    episodes.take("/b", TYPE, DATA, 1)
    episodes.open(EpisodeInfo("one"), 2)
    assert episodes.missing() == ["/a", "/b"], "what came before the bag does not count"
    episodes.take("/a", TYPE, DATA, 3)
    assert not episodes.ready_now()
    assert episodes.waiting
    assert episodes.missing() == ["/b"]
    episodes.take("/b", TYPE, DATA, 4)
    assert episodes.ready_now()
    assert not episodes.ready_now()
    episodes.announce_again()
    assert episodes.ready_now()
    episodes.close(EpisodeOutcome(), 5)
    episodes.join(10.0)


def test_every_bag_holds_latched_messages_all_topics_and_the_losses(episodes: Episodes) -> None:
    episodes.take("/latched", TYPE, b"out of date", 1, latched=frozenset())
    episodes.take("/latched", TYPE, DATA, 1, latched=frozenset())
    for name in ("one", "two"):
        episodes.open(EpisodeInfo(name, seed=3), 10)
        episodes.take("/a", TYPE, DATA, 11, lost=2)
        episodes.close(EpisodeOutcome("success", "simulator"), 12)
    episodes.join(10.0)
    assert episodes.finished == 2
    for name in ("one", "two"):
        with EpisodeReader(episodes.config.directory / name) as reader:
            counts = {topic.name: topic.count for topic in reader.topics.values()}
            assert counts == {"/a": 1, "/b": 0, "/latched": 1}
            assert reader.drops is not None
            assert reader.drops["/a"] == 2
            assert reader.outcome.outcome == "success"


def test_a_bag_that_is_still_open_is_finished_before_the_next(episodes: Episodes) -> None:
    episodes.open(EpisodeInfo("one"), 1)
    episodes.open(EpisodeInfo("two"), 2)
    assert episodes.episode_id == "two"
    episodes.close(EpisodeOutcome(), 3)
    episodes.join(10.0)
    with EpisodeReader(episodes.config.directory / "one") as reader:
        assert reader.finished
        assert reader.outcome.outcome == "unknown"


def test_names_of_episodes_cannot_leave_the_folder(episodes: Episodes) -> None:
    episodes.open(EpisodeInfo("../../evil"), 1)
    assert episodes.writer is not None
    assert episodes.writer.path.parent == episodes.config.directory
    episodes.close(EpisodeOutcome(), 2)
    episodes.join(10.0)


@pytest.mark.parametrize(
    ("numbers", "publishers", "lost"),
    [
        ([1, 2, 3], 1, 0),
        ([5, 6, 9], 1, 2),
        ([5, 6, 1, 2], 1, 0),  # a new publisher
        ([5, None, 7], 1, 1),
        ([4, 4], 1, 0),
        ([1000, 1, 1001, 2, 3, 1002], 2, 0),
        ([7, 8, 8, 9, 10, 9], 2, 0),  # one overtakes the other
        ([1000, 1, 1001, 4, 1003, 5], 2, 3),
        ([10, 12, 13, 14, 14], 2, 3),  # 11 to 13 of the first
        ([1000, 500, 1, 2, 1001, 3, 1002], 2, 0),  # one has restarted beside the other
        ([1000, 1, 1001], 0, 999),
    ],
)
def test_losses_are_gaps_in_a_publishers_numbers(
    numbers: list[int | None], publishers: int, lost: int
) -> None:
    watch = SequenceWatch()
    assert sum(watch.lost("/a", number, lambda: publishers) for number in numbers) == lost


def numbered(tmp_path: Path, **settings: object) -> Episodes:
    made = Episodes(RecordingConfig(tmp_path / "bags", **settings))  # type: ignore[arg-type]
    made.add_topic("/a", TYPE, [QosProfile()])
    return made


def stamps(episodes: Episodes, name: str) -> list[int]:
    with EpisodeReader(episodes.config.directory / name) as reader:
        return [message.log_ns for message in reader.raw_messages()]


def test_a_bag_holds_the_seconds_before_its_episode(tmp_path: Path) -> None:
    episodes = numbered(tmp_path, preroll=2.0)
    for second in range(10):
        episodes.take("/a", TYPE, DATA, second * SECOND)
    episodes.open(EpisodeInfo("one"), 9 * SECOND)
    episodes.take("/a", TYPE, DATA, 10 * SECOND)
    episodes.close(EpisodeOutcome(), 10 * SECOND)
    episodes.take("/a", TYPE, DATA, 11 * SECOND)
    episodes.open(EpisodeInfo("two"), 11 * SECOND)
    episodes.close(EpisodeOutcome(), 12 * SECOND)
    episodes.join(10.0)
    assert stamps(episodes, "one") == [second * SECOND for second in (7, 8, 9, 10)]
    assert stamps(episodes, "two") == [11 * SECOND], "what the first bag holds is not said twice"


def test_the_memory_of_the_preroll_is_bounded_and_a_clock_that_jumps_empties_it() -> None:
    kept = PreRoll(100.0, 10 * (1000 + MESSAGE_OVERHEAD_BYTES))
    for second in range(50):
        kept.add(Kept("/a", TYPE, bytes(1000), second * SECOND))
        assert kept.size <= 10 * (1000 + MESSAGE_OVERHEAD_BYTES)
    assert [one.log_ns // SECOND for one in kept.take(49 * SECOND)] == list(range(40, 50))
    assert kept.size == 0
    kept.add(Kept("/a", TYPE, bytes(1000), 50 * SECOND))
    kept.add(Kept("/a", TYPE, bytes(1000), 3 * SECOND))
    assert [one.log_ns // SECOND for one in kept.take(3 * SECOND)] == [3]


def test_names_follow_the_pattern(tmp_path: Path) -> None:
    info = EpisodeInfo("e/7", task="pick", source="lab", seed=3)
    name = bag_name("{date}_{time}_{source}_{task}_{seed}_{episode_id}", info, time.gmtime(0))
    assert name == "1970-01-01_00-00-00_lab_pick_3_e_7"
    assert bag_name("{date}/../{task}", info, time.gmtime(0)) == "1970-01-01_.._pick"
    with pytest.raises(ValueError, match="a field other than episode_id, task, source"):
        numbered(tmp_path, name_pattern="{robot}")
    with pytest.raises(ValueError, match=r"gives the name '\.\.'"):
        numbered(tmp_path, name_pattern="..")


def test_a_full_disk_lets_no_episode_begin(tmp_path: Path) -> None:
    episodes = numbered(tmp_path, disk_warn_bytes=1 << 62, disk_stop_bytes=1 << 62)
    with pytest.raises(OSError, match=r"MB are left on the disk of .*bags, fewer than"):
        episodes.open(EpisodeInfo("one"), 1)
    assert episodes.writer is None
    with pytest.raises(ValueError, match="disk_stop_bytes 2 is above disk_warn_bytes 1"):
        numbered(tmp_path, disk_warn_bytes=1, disk_stop_bytes=2)
    enough = DiskWatch(tmp_path, 1 << 62, 0)
    assert enough.warning()
    assert not enough.problem()


def test_notes_and_ids_are_kept_with_the_episode(tmp_path: Path) -> None:
    episodes = numbered(
        tmp_path, versions={"vla_nodes": "1"}, calibrations={"scene.yaml": "sha256:a"}
    )
    episodes.open(EpisodeInfo("one"), 1)
    episodes.note("the cube was wet")
    episodes.note("")
    episodes.identify("nano:7")
    episodes.identify(failure_detector="fused:1", failure_calibration="")
    episodes.close(EpisodeOutcome(), 2)
    episodes.join(10.0)
    with EpisodeReader(episodes.config.directory / "one") as reader:
        info = reader.info
    with EpisodeReader(episodes.config.directory / "one" / "one_0.mcap") as reader:
        assert reader.info == info, "the file alone says the same"
    assert info.notes == {"note_1": "the cube was wet"}
    assert info.policy_id == "nano:7"
    assert info.versions == {"vla_nodes": "1"}
    assert info.calibrations == {"scene.yaml": "sha256:a", "failure_detector": "fused:1"}


def test_times_of_reception_are_in_ros_time_and_do_not_step_back() -> None:
    times = ReceptionTimes()
    times.begin(1000, 500)
    assert times.of("/a", 0) == 500, "the middleware does not know"
    times.begin(2000, 700)  # ROS time runs at a fifth
    assert times.of("/b", 1500) == 600
    assert times.of("/b", 1400) == 600, "out of order"
    assert times.of("/c", 9999) == 700, "never later than now"
    times.begin(3000, 100)  # a new simulation
    assert times.of("/b", 2500) == 100


def test_message_classes_and_hidden_topics() -> None:
    assert message_class("std_msgs/msg/String") is String
    with pytest.raises(ImportError, match="has no Strin"):
        message_class("std_msgs/msg/Strin")
    assert is_hidden("/run_task/_action/feedback")
    assert not is_hidden("/cameras/scene/image_raw")


def test_bags_are_checked_and_repaired_on_the_command_line(
    episodes: Episodes, capsys: pytest.CaptureFixture[str]
) -> None:
    episodes.open(EpisodeInfo("one"), 1)
    episodes.take("/a", TYPE, DATA, 2)
    episodes.close(EpisodeOutcome("success", "operator"), 3)
    episodes.join(10.0)
    bag = episodes.config.directory / "one"
    assert cli.main(["bag", "check", str(bag)]) == 0
    assert "sound" in capsys.readouterr().out
    (bag / "metadata.yaml").unlink()
    assert cli.main(["bag", "check", str(bag), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["figures"]["unsound_count"] == 1
    assert cli.main(["bag", "repair", str(bag)]) == 0
    assert cli.main(["bag", "check", f"{bag}_repaired"]) == 0
    assert cli.main(["bag", "repair", str(bag)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["bag", "check", str(bag / "gone"), str(bag)]) == 1
