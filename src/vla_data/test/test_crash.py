# SPDX-License-Identifier: Apache-2.0
"""What a bag still holds after its writer was killed, the disk was full or bytes were damaged."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader

import vla_data
from vla_data import EpisodeReader, EpisodeReadError, bag_info, images, mcap_file, mcap_writer

HERE = Path(__file__).parent
SOURCES = Path(vla_data.__file__).parents[1]


def record(
    path: Path,
    seconds: float | None,
    *,
    size_limit: int = 0,
    chunk_bytes: int = 1 << 18,
    flushes: bool = True,
) -> tuple[int, list[tuple[int, float]], str]:
    """Runs the recorder; kills it after some time, unless it is to end by itself."""
    arguments = [str(path), str(size_limit), str(chunk_bytes), str(flushes)]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "killed_recorder.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(SOURCES), "PATH": "/usr/bin:/bin"},
    )
    lines = []
    try:
        if seconds is not None:
            first = process.stdout.readline()
            lines = [first]
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                lines.append(process.stdout.readline())
            process.kill()
        rest, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    lines += [line + "\n" for line in rest.split("\n")]
    whole = [line.split() for line in lines if line.endswith("\n") and line.strip()]
    return process.returncode, [(int(number), float(at)) for number, at in whole], errors


def numbers(path: Path) -> list[int]:
    """Reads the numbers back from the pixels, and checks that each picture is whole."""
    found = []
    with EpisodeReader(path) as reader:
        for each in reader.messages():
            pixels = images.decode_message(each.message)
            assert pixels.shape == (48, 64, 3)
            high, middle, low = (int(value) for value in pixels[0, 0])
            found.append(high << 16 | middle << 8 | low)
    return found


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    path = tmp_path_factory.mktemp("killed") / "bag"
    code, _, _ = record(path, 1.2)
    assert code == -9
    return path


@pytest.mark.parametrize("flushes", [True, False])
def test_after_sigkill_all_but_the_last_second_is_readable(tmp_path, flushes):
    path = tmp_path / "bag"
    # The chunk never fills up, so that only the periodic flush brings anything to the disk.
    code, taken, _ = record(path, 1.6, chunk_bytes=1 << 28, flushes=flushes)
    assert code == -9
    last_taken, at = taken[-1]
    assert last_taken > 100
    kept = numbers(path)
    if not flushes:
        assert kept == []
        return
    assert kept == list(range(len(kept)))
    assert at - dict(taken)[kept[-1]] <= 1.0


def test_an_unfinished_bag_says_so_and_who_it_was(killed):
    info = bag_info(killed)
    assert not info["finished"]
    assert any("unfinished" in problem for problem in info["problems"])
    assert any("metadata.yaml is missing" in problem for problem in info["problems"])
    assert info["episode"]["task"] == "pick"
    assert info["outcome"] == "unknown"
    assert info["drops_count"] is None
    assert info["message_count"] == info["topics"][0]["count"] > 0


@pytest.mark.parametrize("cut", [1, 7, 300, 5000, 100_000])
def test_a_file_cut_anywhere_is_read_up_to_there(killed, tmp_path, cut):
    copy = tmp_path / "bag"
    shutil.copytree(killed, copy)
    file = next(copy.glob("*.mcap"))
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - cut)
    kept = numbers(copy)
    assert kept == list(range(len(kept)))
    whole = len(numbers(killed))
    assert 0 < len(kept) <= whole
    assert whole - len(kept) <= 40 + cut // 9216


@pytest.mark.parametrize("cut", [0, 40, 5000])
def test_finishing_gives_the_index_back_and_loses_nothing(killed, tmp_path, cut):
    copy = tmp_path / "bag"
    shutil.copytree(killed, copy)
    file = next(copy.glob("*.mcap"))
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - cut)
    before = numbers(copy)
    index = mcap_writer.finish(file, {"outcome": {"outcome": "aborted"}})
    assert index.finished
    assert index.problems == []
    assert numbers(copy) == before
    assert EpisodeReader(copy).outcome.outcome == "aborted"
    with AnyReader([file]) as other:
        assert other.message_count == len(before)
        assert sum(1 for _ in other.messages()) == len(before)


def test_finishing_a_finished_file_changes_nothing(episode_bag):
    file = next(episode_bag.glob("*.mcap"))
    before = file.read_bytes()
    assert mcap_writer.finish(file, {"outcome": {}}).finished
    assert file.read_bytes() == before


def test_a_full_disk_is_reported_and_what_was_written_is_kept(tmp_path):
    path = tmp_path / "bag"
    limit = 3_000_000
    code, taken, errors = record(path, None, size_limit=limit)
    assert code == 3
    assert "cannot be written any further: [Errno 27] File too large" in errors
    assert "could not be written to its end" in errors
    kept = numbers(path)
    assert kept == list(range(len(kept)))
    assert f"kept {len(kept)} of " in errors
    assert "with index and metadata" in errors
    assert len(kept) * 48 * 64 * 3 > 0.8 * limit
    info = bag_info(path)
    assert info["finished"]
    assert info["drops_count"] == int(errors.split("kept ")[1].split()[2]) - len(kept) > 0
    assert len(taken) >= len(kept)
    with AnyReader([path]) as other:
        assert other.message_count == len(kept)


def test_a_damaged_chunk_is_found_by_its_checksum(episode_bag, tmp_path):
    copy = tmp_path / "bag"
    shutil.copytree(episode_bag, copy)
    file = next(copy.glob("*.mcap"))
    with EpisodeReader(copy) as reader:
        assert len(list(reader.raw_messages())) == reader.message_count
    chunk = mcap_file.read_index(file).chunks[0]
    with file.open("r+b") as stream:
        stream.seek(chunk.chunk_start_offset + chunk.chunk_length // 2)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 0xFF]))
    with (
        EpisodeReader(copy) as reader,
        pytest.raises(EpisodeReadError, match=f"chunk at byte {chunk.chunk_start_offset}"),
    ):
        list(reader.raw_messages())
