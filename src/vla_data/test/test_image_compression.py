# SPDX-License-Identifier: Apache-2.0
"""Bags hold images as JPEG or H.264 where that is asked for, and whatever reads bags reads them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from control_episode import CAMERAS, CONTRACT, RATE, arm_urdf, kinematics, write
from made_episode import picture

from vla_data import EpisodeInfo, EpisodeReader, EpisodeWriter, ObservationError, check_bag, images
from vla_data.cameras import camera_topics
from vla_data.h264 import PIXEL_FORMAT, H264Encoder, H264Error, decode, full_colour_frame
from vla_data.image_compression import COMPRESSED_IMAGE, FORMATS, IMAGE, ImageCompressor
from vla_data.lerobot.conversion import convert
from vla_data.report.video import write_film
from vla_data.rows import read_rows, recorded_cameras, survey


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    error = np.mean((one.astype(float) - two.astype(float)) ** 2)
    return float(10.0 * np.log10(255.0**2 / error))


@pytest.fixture(scope="module", params=FORMATS[1:])
def compressed(request: Any, tmp_path_factory: pytest.TempPathFactory, messages: Any) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return write(folder / request.param, messages, urdf=arm_urdf(), images=request.param)


def test_only_the_compressed_images_are_stored(compressed: Path, control_bag: Path) -> None:
    with EpisodeReader(compressed) as reader, EpisodeReader(control_bag) as raw:
        assert reader.topics_of_type(IMAGE) == []
        topics = {name: f"/cameras/{name}/image_raw/{compressed.name}" for name in CAMERAS}
        assert camera_topics(reader) == topics
        assert not any(reader.drops.values())
        for name, topic in topics.items():
            before = f"/cameras/{name}/image_raw"
            assert reader.topics[topic].count == raw.topics[before].count
            assert reader.topics[topic].type_name == COMPRESSED_IMAGE
            assert reader.header_stamps(topic) == raw.header_stamps(before)
    assert check_bag(compressed)["sound"]


def test_rows_differ_from_those_of_raw_images_by_little(
    compressed: Path, control_bag: Path
) -> None:
    with EpisodeReader(compressed) as reader:
        contract = replace(CONTRACT, cameras=recorded_cameras(reader, 0.25))
        rows = list(read_rows(reader, contract, survey(reader, contract), RATE, kinematics))
    with EpisodeReader(control_bag) as reader:
        raw = list(read_rows(reader, CONTRACT, survey(reader, CONTRACT), RATE, kinematics))
    assert len(rows) == len(raw)
    worst = np.inf
    for one, other in zip(rows, raw, strict=True):
        np.testing.assert_array_equal(one.action, other.action)
        assert one.observation.stamp_ns == other.observation.stamp_ns
        for name in CAMERAS:
            worst = min(worst, psnr(one.observation.images[name], other.observation.images[name]))
    print(f"{compressed.name}: {worst:.1f} dB at least")
    # Measured: 34.4 and 44.3 dB. JPEG halves the resolution of colour, which costs edges most.
    assert worst > {"jpeg": 32.0, "h264": 42.0}[compressed.name]


def test_a_dataset_and_a_film_are_made_of_them(compressed: Path, tmp_path: Path) -> None:
    with EpisodeReader(compressed) as reader:
        contract = replace(CONTRACT, cameras=recorded_cameras(reader, 0.25))
        assert {one.encoding for one in contract.cameras.values()} == {compressed.name}
        film = write_film(reader, tmp_path / "film.mp4", "pick it up")
        assert film is not None
        assert film.cameras == CAMERAS
    made = convert([compressed], tmp_path / "set", contract, workers=1)
    assert made.skipped == {}
    assert made.episodes[0]["length"] > 40


def test_what_is_no_picture_is_kept_as_it_is_and_what_is_damaged_counts_as_lost(
    tmp_path: Path, messages: Any
) -> None:
    depth = messages.make(
        IMAGE,
        header=messages.header(5),
        height=4,
        width=4,
        encoding="16UC1",
        step=8,
        data=np.arange(32, dtype=np.uint8),
    )
    good = messages.image(7, picture("scene", 0.0))
    short = messages.image(8, picture("scene", 0.0))
    short.data = short.data[:-5]
    info = EpisodeInfo("e")
    with EpisodeWriter(
        tmp_path / "e", info, definitions=messages.definitions, images="h264"
    ) as writer:
        for topic in ("/depth", "/scene", "/idle"):
            writer.add_topic(topic, IMAGE)
        for stamp, (topic, message) in enumerate(
            [("/depth", depth), ("/scene", good), ("/scene", short)]
        ):
            writer.write(topic, IMAGE, messages.cdr(message), stamp)
    with EpisodeReader(tmp_path / "e") as reader:
        assert {topic.name: topic.count for topic in reader.topics.values()} == {
            "/depth": 1,
            "/scene/h264": 1,
        }
        assert reader.drops == {"/depth": 0, "/scene/h264": 1}
        found = {each.topic: each.message for each in reader.messages()}
        np.testing.assert_array_equal(found["/depth"].data, depth.data)
        scene = found["/scene/h264"]
        assert (scene.format, scene.header.stamp.nanosec) == ("h264", 7)
        assert psnr(images.decode_message(scene), picture("scene", 0.0)) > 38.0
    assert check_bag(tmp_path / "e")["sound"]


def test_every_frame_stands_alone() -> None:
    pictures = [picture("scene", time) for time in np.arange(0.0, 2.0, 0.25)]
    encoder = H264Encoder((96, 96))
    frames = [encoder.encode(pixels) for pixels in pictures]
    for index in (5, 0, 7):
        assert psnr(decode(frames[index]), pictures[index]) > 38.0
    odd = np.zeros((31, 45, 3), np.uint8)
    assert decode(H264Encoder((31, 45)).encode(odd)).shape == odd.shape


@pytest.mark.parametrize("size", [(96, 96), (31, 45), (480, 640)])
def test_colours_are_those_of_ffmpegs_conversion(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    pixels[0, :3] = ((0, 0, 0), (255, 255, 255), (255, 0, 0))
    mine = full_colour_frame(pixels)
    other = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=PIXEL_FORMAT)
    for one, two in zip(mine.planes, other.planes, strict=True):
        values = [np.frombuffer(p, np.uint8).reshape(-1, p.line_size) for p in (one, two)]
        first, second = (v[: size[0], : size[1]].astype(int) for v in values)
        assert np.abs(first - second).max() <= 1


def test_a_frame_that_builds_on_others_is_refused() -> None:
    context = av.CodecContext.create("libx264", "w")
    context.width = context.height = 96  # type: ignore[attr-defined]
    context.pix_fmt, context.time_base = "yuv444p", Fraction(1, 30)  # type: ignore[attr-defined]
    context.options = {"tune": "zerolatency", "g": "100"}
    packets = []
    for number, time in enumerate((0.0, 0.5)):
        frame = av.VideoFrame.from_ndarray(picture("scene", time), format="rgb24")
        frame.pts = number
        packets += context.encode(frame)  # type: ignore[attr-defined]
    assert decode(bytes(packets[0])).shape == (96, 96, 3)
    for data in (bytes(packets[1]), b"", b"\x00\x00\x00\x01nothing", bytes(packets[0])[:40]):
        with pytest.raises(H264Error, match=r"is not one H\.264 key frame"):
            decode(data)
    with pytest.raises(ObservationError, match=r"camera 'scene': is not one H\.264 key frame"):
        images.decode_compressed("h264", bytes(packets[1]), part="camera 'scene'")


def test_another_format_is_refused(definitions: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'webp' is not one of raw, jpeg, h264"):
        ImageCompressor("webp", definitions)
    with pytest.raises(ValueError, match="'webp' is not one of raw, jpeg, h264"):
        EpisodeWriter(tmp_path / "e", EpisodeInfo("e"), definitions=definitions, images="webp")
    assert not (tmp_path / "e").exists()
