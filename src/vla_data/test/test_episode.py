# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import threading
from io import StringIO

import numpy as np
import pytest
import yaml
from made_episode import NS, TYPES
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from mcap_ros2.decoder import DecoderFactory
from rich.console import Console
from rosbags.highlevel import AnyReader

from vla_data import (
    EpisodeInfo,
    EpisodeOutcome,
    EpisodeReader,
    EpisodeReadError,
    EpisodeWriteError,
    EpisodeWriter,
    QosProfile,
    bag_info,
    bag_table,
)
from vla_data.mcap_file import read_index

STRING = "std_msgs/msg/String"


def text(messages, value):
    return messages.cdr(messages.make(STRING, data=value))


@pytest.fixture
def writer(tmp_path, messages):
    info = EpisodeInfo("e1", task="pick", seed=7, instruction="pick up the red block")
    return EpisodeWriter(tmp_path / "e1", info, definitions=messages.definitions)


def test_rosbags_opens_the_folder_and_counts_agree(episode_bag):
    info = bag_info(episode_bag)
    counts = {topic["name"]: topic["count"] for topic in info["topics"]}
    with AnyReader([episode_bag]) as other:
        assert other.message_count == info["message_count"] == sum(counts.values())
        assert {topic: entry.msgcount for topic, entry in other.topics.items()} == counts
        seen = dict.fromkeys(counts, 0)
        for connection, _, raw in other.messages():
            other.deserialize(raw, connection.msgtype)
            seen[connection.topic] += 1
    assert seen == counts
    assert counts["/controller/state"] == 100
    assert counts["/cameras/wrist/image_raw"] == 30


def test_mcaps_own_decoder_reads_it_with_checksums(episode_bag):
    file = episode_bag / f"{episode_bag.name}_0.mcap"
    with file.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True, decoder_factories=[DecoderFactory()])
        assert reader.get_header().profile == "ros2"
        decoded = [entry.decoded_message for entry in reader.iter_decoded_messages()]
        assert len(decoded) == reader.get_summary().statistics.message_count
        names = {record.name for record in reader.iter_metadata()}
    assert names == {"episode", "outcome", "drops", "rosbag2"}
    index = read_index(file)
    assert index.finished
    assert {chunk.compression for chunk in index.chunks} == {"zstd"}


def test_metadata_file_has_the_layout_of_version_9(episode_bag):
    content = (episode_bag / "metadata.yaml").read_text()
    assert "&" not in content, "rosbag2 does not expect anchors"
    document = yaml.safe_load(content)
    assert list(document) == ["rosbag2_bagfile_information"]
    bag = document["rosbag2_bagfile_information"]
    assert bag["version"] == 9
    assert bag["storage_identifier"] == "mcap"
    assert bag["ros_distro"] == "jazzy"
    assert bag["relative_file_paths"] == ["episode_000_0.mcap"]
    assert bag["files"][0]["message_count"] == bag["message_count"]
    assert bag["starting_time"] == {"nanoseconds_since_epoch": 5 * NS}
    state = next(
        entry["topic_metadata"]
        for entry in bag["topics_with_message_count"]
        if entry["topic_metadata"]["name"] == "/controller/state"
    )
    assert re.fullmatch("RIHS01_[0-9a-f]{64}", state["type_description_hash"])
    assert state["offered_qos_profiles"][0]["history"] == "keep_last"
    assert state["offered_qos_profiles"][0]["deadline"] == {"sec": 9223372036, "nsec": 854775807}
    custom = bag["custom_data"]
    assert all(isinstance(value, str) for value in custom.values())
    assert custom["outcome"] == "success"
    assert custom["seed"] == "2000007"


def test_files_are_exactly_bag_and_metadata(episode_bag):
    names = sorted(file.name for file in episode_bag.iterdir())
    assert names == ["episode_000_0.mcap", "metadata.yaml"]


def test_values_come_back(reader, episode_bag):
    with reader:
        assert reader.info.seed == 2_000_007
        assert reader.info.versions == {"vla_data": "0.1.0"}
        assert reader.outcome == EpisodeOutcome("success", "simulator", "lifted 0.12 m")
        assert reader.finished
        assert reader.problems == []
        assert set(reader.drops.values()) == {0}
        state = next(reader.messages(["/controller/state"], start_ns=6 * NS)).message
        assert state.header.stamp.sec == 6
        assert state.tau_limit.tolist() == [87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0]
        assert state.pose_tool_in_base.position.y == pytest.approx(0.053)


def test_every_type_of_the_suite_survives(tmp_path, messages):
    path = tmp_path / "all"
    with EpisodeWriter(path, EpisodeInfo("all"), definitions=messages.definitions) as writer:
        for stamp, type_name in enumerate(TYPES):
            message = messages.make(type_name)
            writer.write(f"/t{stamp}", type_name, messages.cdr(message), stamp)
    with EpisodeReader(path) as reader:
        found = [each.message.__msgtype__ for each in reader.messages()]
        hashes = {topic.type_name: topic.type_hash for topic in reader.topics.values()}
    assert found == list(TYPES)
    assert hashes == {name: messages.definitions.type_hash(name) for name in TYPES}


def test_order_time_and_topic_selection(tmp_path, messages):
    path = tmp_path / "e"
    stamps = np.random.default_rng(1).permutation(3000)
    with EpisodeWriter(
        path, EpisodeInfo("e"), definitions=messages.definitions, chunk_bytes=2000
    ) as writer:
        for stamp in stamps:
            topic = f"/{'ab'[int(stamp) % 2]}"
            writer.write(topic, STRING, text(messages, f"{stamp}"), int(stamp), int(stamp) + 5)
    with EpisodeReader(path) as reader:
        assert len(read_index(reader.files[0]).chunks) > 20
        everything = [(each.log_ns, each.message.data) for each in reader.messages()]
        assert everything == [(stamp, f"{stamp}") for stamp in range(3000)]
        part = [each.log_ns for each in reader.raw_messages(["/a"], start_ns=100, end_ns=200)]
        assert part == list(range(100, 200, 2))
        assert next(reader.raw_messages(["/b"])).publish_ns == 6
        with pytest.raises(EpisodeReadError, match="has no topic /c; it has /a, /b"):
            list(reader.raw_messages(["/c"]))


@pytest.mark.parametrize("finished", [True, False])
def test_stamps_are_those_of_the_whole_messages(tmp_path, messages, finished):
    path = tmp_path / "e"
    stamps = np.random.default_rng(1).permutation(400)
    with EpisodeWriter(
        path, EpisodeInfo("e"), definitions=messages.definitions, chunk_bytes=30_000
    ) as writer:
        for number, stamp in enumerate(stamps):
            frame = messages.image(int(stamp), np.full((40, 40, 3), number % 256, np.uint8))
            writer.write("/camera", frame.__msgtype__, messages.cdr(frame), number)
            writer.write("/text", STRING, text(messages, "x" * 3000), number)
    if not finished:
        (path / "metadata.yaml").unlink()
        file = path / "e_0.mcap"
        file.write_bytes(file.read_bytes()[: read_index(file).data_end])
    with EpisodeReader(path) as reader:
        assert reader.finished is finished
        assert reader.header_stamps("/camera") == stamps.tolist()
        assert reader.header_stamps("/camera", 100, 110) == stamps[100:110].tolist()


@pytest.mark.parametrize("compression", list(CompressionType))
def test_files_of_another_writer_are_read(tmp_path, messages, compression):
    path = tmp_path / "other.mcap"
    kind = "sensor_msgs/msg/JointState"
    sent = [messages.joint_state(stamp, np.full(7, stamp), np.zeros(7)) for stamp in range(300)]
    with path.open("wb") as stream:
        other = Writer(stream, chunk_size=10_000, compression=compression)
        other.start("ros2")
        schema = other.register_schema(
            kind, "ros2msg", messages.definitions.full_text(kind).encode()
        )
        channel = other.register_channel("/joint_states", "cdr", schema)
        for stamp, message in enumerate(sent):
            other.add_message(channel, stamp, messages.cdr(message), stamp)
        other.finish()
    with EpisodeReader(path) as reader:
        assert len(read_index(path).chunks) > 3
        assert reader.header_stamps("/joint_states") == list(range(300))
        for each, message in zip(reader.messages(), sent, strict=True):
            np.testing.assert_array_equal(each.message.position, message.position)
    content = bytearray(path.read_bytes())
    place = read_index(path).chunks[1].chunk_start_offset + 200
    content[place : place + 20] = bytes(20)
    path.write_bytes(content)
    with EpisodeReader(path) as reader, pytest.raises(EpisodeReadError, match="chunk at byte"):
        list(reader.messages())


def test_reading_is_lazy(tmp_path, messages, monkeypatch):
    path = tmp_path / "e"
    with EpisodeWriter(
        path, EpisodeInfo("e"), definitions=messages.definitions, chunk_bytes=2000
    ) as writer:
        for stamp in range(3000):
            writer.write("/a", STRING, text(messages, f"{stamp}"), stamp)
    from vla_data import mcap_file

    read = []
    original = mcap_file.read_chunk
    monkeypatch.setattr(
        mcap_file, "read_chunk", lambda stream, entry: read.append(1) or original(stream, entry)
    )
    with EpisodeReader(path) as reader:
        next(reader.raw_messages())
        assert len(read) == 1
        list(reader.raw_messages(start_ns=1500, end_ns=1510))
        assert len(read) <= 3


def test_offered_qos_is_kept_and_rosbags_agrees(writer, messages):
    qos = QosProfile(history="keep_all", reliability="best_effort", durability="transient_local")
    writer.add_topic("/latched", STRING, [qos])
    writer.write("/latched", STRING, text(messages, "x"), 1)
    path = writer.close()
    with EpisodeReader(path) as reader:
        assert reader.topics["/latched"].qos == (qos,)
    with AnyReader([path]) as other:
        profile = other.connections[0].ext.offered_qos_profiles[0]
        assert profile.durability.name == "TRANSIENT_LOCAL"
        assert profile.reliability.name == "BEST_EFFORT"
    with pytest.raises(ValueError, match="QoS history 'some' is not one of keep_last, keep_all"):
        QosProfile(history="some")
    with pytest.raises(ValueError, match="QoS depth -1"):
        QosProfile(depth=-1)


def test_a_topic_without_messages_is_recorded(writer):
    writer.add_topic("/quiet", STRING)
    path = writer.close()
    info = bag_info(path)
    assert [(topic["name"], topic["count"]) for topic in info["topics"]] == [("/quiet", 0)]
    assert info["duration_s"] == 0.0
    assert info["start_ns"] is None


def test_wrong_use_is_refused(writer, messages, tmp_path):
    with pytest.raises(ValueError, match="topic 'chatter' is not absolute"):
        writer.write("chatter", STRING, text(messages, "x"), 1)
    writer.write("/chatter", STRING, text(messages, "x"), 1)
    with pytest.raises(ValueError, match="/chatter is recorded as std_msgs/msg/String, not as"):
        writer.write("/chatter", "std_msgs/msg/Header", text(messages, "x"), 1)
    with pytest.raises(ValueError, match="/chatter has no CDR header"):
        writer.write("/chatter", STRING, b"hello", 1)
    with pytest.raises(ValueError, match="/chatter has the stamp -1"):
        writer.write("/chatter", STRING, text(messages, "x"), -1)
    writer.close()
    with pytest.raises(EpisodeWriteError, match="is closed"):
        writer.write("/chatter", STRING, text(messages, "x"), 2)
    with pytest.raises(EpisodeWriteError, match="exists already and is left as it is"):
        EpisodeWriter(writer.path, EpisodeInfo("e2"), definitions=messages.definitions)
    assert EpisodeReader(writer.path).info.episode_id == "e1"
    with pytest.raises(ValueError, match=r"flush_period 2\.0 s"):
        EpisodeWriter(tmp_path / "x", EpisodeInfo("x"), flush_period=2.0)


def test_closing_twice_is_harmless(writer):
    assert writer.close() == writer.close()


def test_an_exception_in_the_recording_is_the_outcome(tmp_path, messages):
    path = tmp_path / "e"
    writer = EpisodeWriter(path, EpisodeInfo("e"), definitions=messages.definitions)

    def recording():
        with writer:
            writer.write("/a", STRING, text(messages, "x"), 1)
            raise RuntimeError("camera fell off")

    with pytest.raises(RuntimeError, match="camera fell off"):
        recording()
    outcome = EpisodeReader(path).outcome
    assert outcome.outcome == "aborted"
    assert "camera fell off" in outcome.message


def test_drops_are_counted_by_topic(tmp_path, messages):
    path = tmp_path / "e"
    writer = EpisodeWriter(
        path, EpisodeInfo("e"), definitions=messages.definitions, queue_bytes=5000
    )
    data = messages.cdr(messages.make(STRING, data="x" * 4000))
    with writer._changed:  # holds the writing thread back, as a slow disk would
        kept = [writer.write("/big", STRING, data, stamp) for stamp in range(10)]
    assert kept == [True] + [False] * 9
    writer.count_drops("/lost_before", 3)
    assert writer.drops == {"/big": 9, "/lost_before": 3}
    writer.close()
    info = bag_info(path)
    assert info["drops_count"] == 12
    assert info["message_count"] == 1
    with EpisodeReader(path) as reader:
        assert reader.drops == {"/big": 9, "/lost_before": 3}


def test_waiting_for_the_disk_drops_nothing(tmp_path, messages):
    path = tmp_path / "e"
    with EpisodeWriter(
        path,
        EpisodeInfo("e"),
        definitions=messages.definitions,
        queue_bytes=3000,
        drop_when_full=False,
    ) as writer:
        for stamp in range(500):
            assert writer.write("/a", STRING, text(messages, "y" * 500), stamp)
    info = bag_info(path)
    assert (info["message_count"], info["drops_count"]) == (500, 0)


def test_many_threads_may_write(tmp_path, messages):
    path = tmp_path / "e"
    with EpisodeWriter(path, EpisodeInfo("e"), definitions=messages.definitions) as writer:

        def work(name):
            for stamp in range(500):
                writer.write(f"/{name}", STRING, text(messages, f"{name}{stamp}"), stamp)

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with EpisodeReader(path) as reader:
        for name in "abcd":
            values = [each.message.data for each in reader.messages([f"/{name}"])]
            assert values == [f"{name}{stamp}" for stamp in range(500)]


def test_table_shows_what_matters(episode_bag):
    console = Console(width=120, record=True, file=StringIO())
    console.print(bag_table(bag_info(episode_bag)))
    shown = console.export_text()
    for expected in ("pick up the red block", "success", "/controller/state", "50.0", "2000007"):
        assert expected in shown


def test_outcome_names_are_those_of_the_message(definitions):
    constants = re.findall(r"^uint8 (\w+) = (\d+)", definitions.text("vla_msgs/msg/Outcome"), re.M)
    for name, number in constants:
        if name.startswith("SOURCE_"):
            made = EpisodeOutcome.from_numbers(0, int(number))
            assert made.source == name.removeprefix("SOURCE_").lower()
        else:
            assert EpisodeOutcome.from_numbers(int(number), 0).outcome == name.lower()
    with pytest.raises(ValueError, match="outcome 6 is not within 0 to 5"):
        EpisodeOutcome.from_numbers(6, 0)
    with pytest.raises(ValueError, match="outcome source 9"):
        EpisodeOutcome.from_numbers(0, 9)
    with pytest.raises(ValueError, match="outcome 'won' is not one of unknown, success"):
        EpisodeOutcome("won")


def test_what_is_not_a_bag_is_named(tmp_path):
    with pytest.raises(EpisodeReadError, match="does not exist"):
        EpisodeReader(tmp_path / "gone")
    with pytest.raises(EpisodeReadError, match="holds no MCAP file"):
        EpisodeReader(tmp_path)
    (tmp_path / "x_0.mcap").write_bytes(b"something else")
    with pytest.raises(EpisodeReadError, match="is not an MCAP file"):
        EpisodeReader(tmp_path)
    (tmp_path / "metadata.yaml").write_text("a: b")
    with pytest.raises(EpisodeReadError, match="is not a bag's metadata"):
        EpisodeReader(tmp_path)
