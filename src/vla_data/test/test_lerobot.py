# SPDX-License-Identifier: Apache-2.0
"""Bags become a LeRobotDataset v3, checked against the format's rules."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from control_episode import CAMERAS, CONTRACT, RATE, arm_urdf, write

from vla_data import EpisodeReader
from vla_data.lerobot import layout
from vla_data.lerobot.conversion import Conversion, ConversionError, common_shape, convert
from vla_data.lerobot.staging import Job, folder_name, kinematics, stage, survey_bag
from vla_data.lerobot.statistics import column_statistics, pooled
from vla_data.lerobot.video import FilmWriter, read_film
from vla_data.rows import read_rows, survey


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory, messages: Any) -> list[Path]:
    """Two whole episodes, and between them one that is damaged in its middle."""
    folder = tmp_path_factory.mktemp("recorded")
    for name, outcome in (("a", "success"), ("b", "success"), ("c", "failure")):
        write(folder / name, messages, urdf=arm_urdf(), outcome=outcome)
    file = next((folder / "b").glob("*.mcap"))
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    file.write_bytes(content)
    return [folder / name for name in "abc"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, bags: list[Path]) -> Conversion:
    return convert(bags, tmp_path_factory.mktemp("sets") / "set", CONTRACT)


def info(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / layout.INFO_PATH).read_text())
    return found


def episodes(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / "meta" / "episodes").to_pylist()
    return rows


def test_a_damaged_episode_is_reported_and_left_out(made: Conversion, bags: list[Path]) -> None:
    assert set(made.skipped) == {str(bags[1])}
    assert "chunk at byte" in made.skipped[str(bags[1])]
    assert [line["bag"] for line in episodes(made.folder)] == ["a", "c"]
    assert sorted(path.name for path in made.folder.parent.iterdir()) == ["set"]


def test_every_feature_has_the_type_and_shape_that_it_states(made: Conversion) -> None:
    stated = info(made.folder)
    assert stated["codebase_version"] == "v3.0"
    assert stated["fps"] == RATE
    assert stated["total_episodes"] == 2
    assert not any("/" in name for name in stated["features"])
    for line in episodes(made.folder):
        place = {key: line[f"data/{key}"] for key in ("chunk_index", "file_index")}
        table = pq.read_table(made.folder / stated["data_path"].format(**place))
        stored = {n for n, f in stated["features"].items() if f["dtype"] != "video"}
        assert set(table.column_names) == stored
        for name in stored:
            feature, column = stated["features"][name], table[name]
            kind, shape = column.type, []
            while str(kind).startswith("list"):
                kind = kind.value_type
            names = {"float32": "float", "float64": "double"}
            assert str(kind) == names.get(feature["dtype"], feature["dtype"]), name
            if feature["dtype"] != "string" and feature["shape"] != [1]:
                shape = list(np.array(column.to_pylist()).shape[1:])
                assert shape == feature["shape"], name
            if isinstance(feature["names"], list) and shape:
                assert len(feature["names"]) == shape[0], name


def test_indices_run_through_and_times_are_rows_over_the_rate(made: Conversion) -> None:
    begin = 0
    for number, line in enumerate(episodes(made.folder)):
        length = line["length"]
        assert (line["dataset_from_index"], line["dataset_to_index"]) == (begin, begin + length)
        table = pq.read_table(made.folder / layout.DATA_PATH.format(**layout.place(number)))
        assert table["index"].to_pylist() == list(range(begin, begin + length))
        assert table["frame_index"].to_pylist() == list(range(length))
        assert set(table["episode_index"].to_pylist()) == {number}
        times = np.array(table["timestamp"].to_pylist())
        np.testing.assert_allclose(times, np.arange(length) / RATE, atol=1e-6)
        done = table["next.done"].to_pylist()
        assert done == [False] * (length - 1) + [True]
        assert table["next.success"].to_pylist()[-1] is (line["outcome"] == "success")
        assert line["true_rate_hz/scene"] == pytest.approx(RATE, rel=0.01)
        begin += length
    assert info(made.folder)["total_frames"] == begin


def test_tasks_are_indexed_by_their_text(made: Conversion) -> None:
    table = pq.read_table(made.folder / layout.TASKS_PATH)
    pandas = json.loads(table.schema.metadata[b"pandas"])
    assert pandas["index_columns"] == ["task"]
    assert table.to_pydict() == {"task_index": [0], "task": ["pick it up"]}
    assert [line["tasks"] for line in episodes(made.folder)] == [["pick it up"]] * 2


@pytest.mark.parametrize("camera", CAMERAS)
def test_films_have_a_frame_per_row_at_the_rate_of_the_set(made: Conversion, camera: str) -> None:
    for line in episodes(made.folder):
        key = f"videos/observation.images.{camera}"
        place = {name: line[f"{key}/{name}"] for name in ("chunk_index", "file_index")}
        path = made.folder / layout.VIDEO_PATH.format(video_key=key[7:], **place)
        with av.open(str(path)) as film:
            stream = film.streams.video[0]
            assert (stream.codec.canonical_name, float(stream.average_rate)) == ("h264", RATE)
            times = [frame.time for frame in film.decode(stream)]
        np.testing.assert_allclose(times, np.arange(line["length"]) / RATE, atol=1e-4)
        assert line[f"{key}/to_timestamp"] - line[f"{key}/from_timestamp"] == pytest.approx(
            line["length"] / RATE
        )


@pytest.mark.parametrize(("codec", "least"), [("h264", 40.0), ("av1", 30.0)])
def test_a_film_loses_little_of_the_pictures(
    made: Conversion, bags: list[Path], tmp_path: Path, codec: str, least: float
) -> None:
    with EpisodeReader(bags[0]) as reader:
        found = survey(reader, CONTRACT)
        forward = kinematics(found.description, CONTRACT)
        rows = list(read_rows(reader, CONTRACT, found, RATE, forward))
    other = None if codec == "h264" else convert([bags[0]], tmp_path / "set", CONTRACT, codec=codec)
    folder = (other or made).folder
    path = folder / layout.VIDEO_PATH.format(
        video_key="observation.images.scene", **layout.place(0)
    )
    assert info(folder)["features"]["observation.images.scene"]["info"]["video.codec"] == codec
    with av.open(str(path)) as film:
        assert film.streams.video[0].codec_context.codec.canonical_name == codec
    errors = [
        np.mean((frame.astype(float) - row.observation.images["scene"]) ** 2)
        for frame, row in zip(read_film(path), rows, strict=True)
    ]
    psnr = 10.0 * np.log10(255.0**2 / np.array(errors))
    print(f"{codec}: {psnr.min():.1f} dB at least, {np.median(psnr):.1f} dB at the median")
    # AV1 halves the resolution of colour; a picture beside its place has 20 dB.
    assert psnr.min() > least


def test_statistics_of_the_set_are_those_of_all_its_rows(made: Conversion) -> None:
    stats = json.loads((made.folder / layout.STATS_PATH).read_text())
    rows = [
        value
        for number in range(2)
        for value in pq.read_table(made.folder / layout.DATA_PATH.format(**layout.place(number)))[
            "action"
        ].to_pylist()
    ]
    whole = column_statistics(np.array(rows))
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(stats["action"][name], whole[name], atol=1e-7)
    picture = stats["observation.images.scene"]
    assert np.shape(picture["mean"]) == (3, 1, 1)
    assert 0.0 < picture["mean"][0][0][0] < 1.0
    parts = [column_statistics(np.array([[1.0], [2.0]])), column_statistics(np.array([[6.0]]))]
    assert pooled(parts)["std"][0] == pytest.approx(np.std([1.0, 2.0, 6.0]))


def test_what_is_finished_is_not_made_again(
    tmp_path: Path, bags: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "set"
    found = survey_bag(bags[0], CONTRACT)
    shape = common_shape([found], CONTRACT, None, "h264")
    folder = tmp_path / "set.part" / folder_name(bags[0], CONTRACT, shape)
    stage(Job(bags[0], CONTRACT, shape, found, folder))
    made_at = (folder / "columns.npz").stat().st_mtime_ns
    half = folder.with_name("half_done.part")
    half.mkdir()
    with pytest.raises(ConversionError, match="nothing to convert"):
        convert([bags[1]], out, CONTRACT)
    assert (folder / "columns.npz").stat().st_mtime_ns == made_at
    assert not out.exists()
    result = convert([bags[0]], out, CONTRACT)
    assert result.converted_s == 0.0
    assert len(result.episodes) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_an_episode_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, bags: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = survey_bag(bags[0], CONTRACT)
    shape = common_shape([found], CONTRACT, None, "h264")
    count = 0

    def fails(self: FilmWriter, pixels: object) -> None:
        nonlocal count
        count += 1
        if count == 9:
            raise OSError("no space left on device")

    monkeypatch.setattr(FilmWriter, "add", fails)
    with pytest.raises(OSError, match="no space left"):
        stage(Job(bags[0], CONTRACT, shape, found, tmp_path / "episode"))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, bags: list[Path]) -> None:
    with pytest.raises(ConversionError, match="exists"):
        convert(bags, tmp_path, CONTRACT)


def test_lerobots_own_loader_iterates_it(made: Conversion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    module = pytest.importorskip(
        "lerobot.datasets.lerobot_dataset",
        reason="lerobot is not installed; it needs an environment of its own (docs/data.md)",
    )
    deltas = {"action": [step / RATE for step in range(16)]}
    data = module.LeRobotDataset(
        "local/set", root=made.folder, delta_timestamps=deltas, video_backend="pyav"
    )
    assert len(data) == info(made.folder)["total_frames"]
    for index in range(len(data)):
        item = data[index]
        assert item["observation.images.scene"].shape == (3, 96, 96)
        assert item["action"].shape == (16, 8)
        assert item["task"] == "pick it up"
    assert item["action_is_pad"].sum() == 15


def test_other_picture_sizes_do_not_mix(tmp_path: Path, bags: list[Path]) -> None:
    from dataclasses import replace

    from vla_data import ObservationError

    found = survey_bag(bags[0], CONTRACT)
    shape = common_shape([found], CONTRACT, None, "h264")
    other = replace(found, sizes={**found.sizes, "wrist": (48, 96)})
    with pytest.raises(ObservationError, match="is 96x48 px, the dataset's is 96x96 px"):
        stage(Job(bags[0], CONTRACT, shape, other, tmp_path / "episode"))
    assert not (tmp_path / "episode").exists()
    shutil.rmtree(tmp_path)
