# SPDX-License-Identifier: Apache-2.0
"""The recorder's core: gate, latched topics, losses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rclpy.serialization import serialize_message
from std_msgs.msg import String

from vla_data import EpisodeInfo, EpisodeOutcome, EpisodeReader, QosProfile
from vla_nodes import cli
from vla_nodes.recorder_node import is_hidden, message_class
from vla_nodes.recording import Episodes, SequenceWatch

TYPE = "std_msgs/msg/String"
DATA = serialize_message(String(data="hello"))


@pytest.fixture
def episodes(tmp_path: Path) -> Episodes:
    made = Episodes(tmp_path / "bags", ["/a", "/b"], 1 << 24)
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
    episodes.take("/latched", TYPE, DATA, 1, latched=True)
    for name in ("one", "two"):
        episodes.open(EpisodeInfo(name, seed=3), 10)
        episodes.take("/a", TYPE, DATA, 11, lost=2)
        episodes.close(EpisodeOutcome("success", "simulator"), 12)
    episodes.join(10.0)
    assert episodes.finished == 2
    for name in ("one", "two"):
        with EpisodeReader(episodes.directory / name) as reader:
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
    with EpisodeReader(episodes.directory / "one") as reader:
        assert reader.finished
        assert reader.outcome.outcome == "unknown"


def test_names_of_episodes_cannot_leave_the_folder(episodes: Episodes) -> None:
    episodes.open(EpisodeInfo("../../evil"), 1)
    assert episodes.writer is not None
    assert episodes.writer.path.parent == episodes.directory
    episodes.close(EpisodeOutcome(), 2)
    episodes.join(10.0)


@pytest.mark.parametrize(
    ("numbers", "lost"),
    [
        ([1, 2, 3], 0),
        ([5, 6, 9], 2),
        ([5, 6, 1, 2], 0),  # a new publisher
        ([5, None, 7], 1),
        ([4, 4], 0),
    ],
)
def test_losses_are_gaps_in_a_publishers_numbers(numbers: list[int | None], lost: int) -> None:
    watch = SequenceWatch()
    assert sum(watch.lost("/a", number) for number in numbers) == lost


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
    bag = episodes.directory / "one"
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
