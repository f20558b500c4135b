# SPDX-License-Identifier: Apache-2.0
"""`check_bag` finds every kind of damage, `repair_bag` keeps all that is whole."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import pytest
import yaml
from made_episode import NS
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from vla_data import (
    EpisodeInfo,
    EpisodeOutcome,
    EpisodeReader,
    EpisodeReadError,
    EpisodeWriter,
    check_bag,
    mcap_file,
    repair_bag,
)

STRING = "std_msgs/msg/String"
EVENT = "vla_msgs/msg/EpisodeEvent"


def write(path, messages, *, ended=True, count=2000, **settings):
    """An episode with its events and numbered texts, 1 ms apart."""
    writer = EpisodeWriter(
        path,
        EpisodeInfo("e1", task="pick"),
        definitions=messages.definitions,
        chunk_bytes=8000,
        **settings,
    )

    def event(kind, stamp, **fields):
        message = messages.make(EVENT, event=kind, episode_id="e1", **fields)
        writer.write("/episode/events", EVENT, messages.cdr(message), stamp)

    event(0, 0)
    for number in range(count):
        data = messages.cdr(messages.make(STRING, data=f"{number}"))
        writer.write("/text", STRING, data, number * NS // 1000)
    if ended:
        outcome = messages.make("vla_msgs/msg/Outcome", outcome=1, outcome_source=3)
        event(1, count * NS // 1000, outcome=outcome)
        return writer.close(EpisodeOutcome("success", "simulator"))
    writer._mcap.flush()
    return writer.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory, messages):
    return write(tmp_path_factory.mktemp("sound") / "bag", messages)


@pytest.fixture
def bag(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "bag"))


def file_of(bag):
    return next(bag.glob("*.mcap"))


def states(result):
    return {check["name"]: check["state"] for check in result["checks"]}


def damage(file, position):
    content = bytearray(file.read_bytes())
    content[position] ^= 0xFF
    file.write_bytes(content)


def chunks(file):
    return mcap_file.read_index(file).chunks


def cut(bag, size):
    """What a killed recorder leaves: no metadata, and the file ends somewhere."""
    (bag / "metadata.yaml").unlink()
    with file_of(bag).open("r+b") as stream:
        stream.truncate(size)


def texts(bag):
    with EpisodeReader(bag) as reader:
        return [int(each.message.data) for each in reader.messages(["/text"])]


def test_a_sound_bag_has_no_error_and_no_warning(sound):
    result = check_bag(sound)
    assert result["sound"]
    assert set(states(result).values()) == {"ok"}
    assert result["message_count"] == 2002


def test_every_type_of_the_suite_agrees_with_its_hash(episode_bag):
    assert states(check_bag(episode_bag))["definitions"] == "ok"


@pytest.mark.parametrize(
    ("what", "check"),
    [
        ("chunk", "chunks"),
        ("message index", "chunks"),
        ("summary", "index"),
        ("footer", "index"),
        ("definition", "definitions"),
        ("metadata count", "metadata.yaml"),
        ("metadata missing", "metadata.yaml"),
        ("file not named", "metadata.yaml"),
        ("outcome", "episode"),
    ],
)
def test_damage_is_found(bag, what, check):
    file = file_of(bag)
    chunk = chunks(file)[3]
    yaml_file = bag / "metadata.yaml"
    if what == "chunk":
        damage(file, chunk.chunk_start_offset + chunk.chunk_length // 2)
    elif what == "message index":
        damage(file, chunk.chunk_start_offset + chunk.chunk_length + 20)
    elif what == "summary":
        # A chunk's first message time in the summary; the checksum is made right again.
        content = bytearray(file.read_bytes())
        start = int.from_bytes(content[-28:-20], "little")
        stated = chunk.chunk_length.to_bytes(8, "little")
        position = content.find(chunk.chunk_start_offset.to_bytes(8, "little") + stated, start)
        content[position + 8] ^= 1
        content[-12:-8] = zlib.crc32(content[start:-12]).to_bytes(4, "little")
        file.write_bytes(content)
    elif what == "footer":
        damage(file, file.stat().st_size - 10)
    elif what == "definition":
        # The data section says one thing, the type hash another.
        content = file.read_bytes().replace(b"string data", b"string gone")
        file.write_bytes(content)
    elif what == "metadata count":
        yaml_file.write_text(yaml_file.read_text().replace("2001", "2000").replace("2002", "2001"))
    elif what == "metadata missing":
        yaml_file.unlink()
    elif what == "file not named":
        shutil.copy(file, bag / "bag_1.mcap")
    else:
        yaml_file.write_text(yaml_file.read_text().replace("outcome: success", "outcome: failure"))
    result = check_bag(bag)
    assert not result["sound"]
    assert states(result)[check] == "error", result


def test_times_that_step_back_and_drops_and_a_missing_end_are_told(tmp_path, messages):
    writer = EpisodeWriter(tmp_path / "e", EpisodeInfo("e"), definitions=messages.definitions)
    data = messages.cdr(messages.make(STRING, data="x"))
    for stamp in (5, 3, 9):
        writer.write("/a", STRING, data, stamp)
    writer.count_drops("/a", 2)
    result = check_bag(writer.close())
    assert states(result)["log times"] == "error"
    assert states(result)["drops"] == states(result)["episode"] == "warning"
    assert any("/a: 2 lost" in c["details"] for c in result["checks"])


def test_nothing_is_repaired_that_is_sound(bag):
    before = sorted(bag.parent.iterdir())
    assert repair_bag(bag)["repaired"] is None
    assert sorted(bag.parent.iterdir()) == before


@pytest.mark.parametrize("into", ["record", "chunk", "header"])
def test_an_unfinished_bag_is_repaired_beside_the_original(bag, into):
    file = file_of(bag)
    last = chunks(file)[-1]
    size = last.chunk_start_offset + {"record": 0, "chunk": 500, "header": 5}[into]
    cut(bag, size)
    before = {path.name: path.read_bytes() for path in bag.iterdir()}
    kept = texts(bag)
    result = repair_bag(bag)
    made = Path(result["repaired"])
    assert {path.name: path.read_bytes() for path in bag.iterdir()} == before
    assert texts(made) == kept == list(range(len(kept)))
    assert result["message_count"] == len(kept) + 1
    expected = {"record": 0.0, "header": None}
    if into == "chunk":
        assert result["tail_lost_s"] == pytest.approx(2.0 - kept[-1] / 1000)
    else:
        assert result["tail_lost_s"] == expected[into]
    checked = check_bag(made)
    assert checked["sound"], checked
    assert states(checked)["episode"] == states(checked)["drops"] == "warning"
    with AnyReader([made]) as other:
        assert sum(1 for _ in other.messages()) == len(kept) + 1
    with file_of(made).open("rb") as stream:
        assert sum(1 for _ in make_reader(stream, validate_crcs=True).iter_messages()) == (
            len(kept) + 1
        )
    with EpisodeReader(made) as reader:
        assert reader.info.task == "pick"
        assert reader.drops is None
        assert reader.outcome.outcome == "unknown"
    with pytest.raises(FileExistsError, match="exists already"):
        repair_bag(bag)


@pytest.mark.parametrize("where", ["body", "length"])
def test_a_damaged_place_loses_only_itself(bag, where):
    file = file_of(bag)
    chunk = chunks(file)[3]
    offset = {"body": chunk.chunk_length // 2, "length": 5}[where]
    damage(file, chunk.chunk_start_offset + offset)
    result = repair_bag(bag)
    made = Path(result["repaired"])
    kept = texts(made)
    gone = sorted(set(range(2000)) - set(kept))
    first, last = (t * 1000 // NS for t in (chunk.message_start_time, chunk.message_end_time))
    assert gone == list(range(first, last + 1))
    assert check_bag(made)["sound"]
    with EpisodeReader(made) as reader:
        assert reader.outcome == EpisodeOutcome("success", "simulator")
        assert reader.custom_data["repaired_from"] == "bag"


def test_the_outcome_is_taken_from_the_event_where_nothing_else_says_it(bag):
    file = file_of(bag)
    last = chunks(file)[-1]
    cut(bag, last.chunk_start_offset + last.chunk_length + last.message_index_length)
    made = repair_bag(bag)["repaired"]
    with EpisodeReader(made) as reader:
        assert reader.outcome == EpisodeOutcome("success", "simulator")


def test_files_of_limited_size_are_one_bag(tmp_path, messages):
    bag = write(tmp_path / "bag", messages, max_file_bytes=6_000)
    with EpisodeReader(bag) as reader:
        names = [file.name for file in reader.files]
        assert len(names) > 3
        assert names == [f"bag_{number}.mcap" for number in range(len(names))]
        assert all(file.stat().st_size < 16_000 for file in reader.files)
    assert texts(bag) == list(range(2000))
    assert check_bag(bag)["sound"]
    document = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert document["relative_file_paths"] == names
    assert sum(file["message_count"] for file in document["files"]) == 2002
    with AnyReader([bag]) as other:
        assert sum(1 for _ in other.messages()) == 2002
    # Without metadata the files are still in order, and one that has just begun does no harm.
    (bag / "metadata.yaml").unlink()
    (bag / f"bag_{len(names)}.mcap").touch()
    assert texts(bag) == list(range(2000))
    made = repair_bag(bag)["repaired"]
    assert check_bag(made)["sound"]
    assert texts(Path(made)) == list(range(2000))


def test_files_of_limited_time(tmp_path, messages):
    bag = write(tmp_path / "bag", messages, max_file_s=0.5)
    with EpisodeReader(bag) as reader:
        assert len(reader.files) == 5  # the last one holds the event of the end alone
        for file in reader.files:
            index = mcap_file.read_index(file)
            assert index.end_ns - index.start_ns < 0.5 * NS


def test_what_cannot_be_read_at_all_is_an_error(tmp_path):
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "bag_0.mcap").write_bytes(b"nothing")
    with pytest.raises(EpisodeReadError, match=r"nothing can be read: .*is not an MCAP file"):
        repair_bag(tmp_path / "bag")
    with pytest.raises(EpisodeReadError, match="does not exist"):
        repair_bag(tmp_path / "gone")
