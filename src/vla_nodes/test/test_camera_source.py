# SPDX-License-Identifier: Apache-2.0
"""The camera thread on a video file: frames, loss, return."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vla_nodes.camera_source import CameraError, CameraSettings, CameraSource, read_calibration


def write_video(path: Path, frames: int = 5) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for _ in range(frames):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[:, :, 2] = 255  # red, in OpenCV's order
        writer.write(frame)
    writer.release()


def wait_for(predicate: Callable[[], bool], timeout: float = 15.0) -> None:
    deadline = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def make(path: Path, **settings: object) -> tuple[CameraSource, list[tuple[int, np.ndarray]]]:
    frames: list[tuple[int, np.ndarray]] = []
    chosen = {"device": str(path), "rate": 100.0, "reopen_period": 0.05, **settings}
    source = CameraSource(
        CameraSettings(**chosen),  # type: ignore[arg-type]
        time.monotonic_ns,
        lambda stamp, rgb: frames.append((stamp, rgb)),
    )
    return source, frames


def test_frames_are_rgb_with_growing_stamps_and_the_file_starts_again(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", frames=4)
    source, frames = make(tmp_path / "v.avi")
    source.start()
    wait_for(lambda: len(frames) > 9)
    source.stop()
    stamps = [stamp for stamp, _ in frames]
    assert stamps == sorted(set(stamps))
    rgb = frames[0][1]
    assert rgb.shape == (48, 64, 3)
    assert rgb[..., 0].mean() > 200
    assert rgb[..., 2].mean() < 60
    assert source.problem == ""


def test_a_camera_that_disappears_is_reported_and_reopened(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    source, frames = make(path)
    source.start()
    wait_for(lambda: "does not exist" in source.problem)
    write_video(path)
    wait_for(lambda: len(frames) > 0)
    path.rename(tmp_path / "away.avi")
    wait_for(lambda: source.problem != "")
    assert source.losses == 1
    seen = len(frames)
    (tmp_path / "away.avi").rename(path)
    wait_for(lambda: len(frames) > seen + 2)
    assert source.problem == ""
    source.stop()


def test_a_file_that_is_not_looped_ends_as_a_loss(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", frames=3)
    source, frames = make(tmp_path / "v.avi", loop=False, reopen_period=60.0)
    source.start()
    wait_for(lambda: source.losses == 1)
    assert "no more frames" in source.problem
    source.stop()
    assert len(frames) == 3


def test_images_are_resized_to_what_was_asked_for(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi")
    source, frames = make(tmp_path / "v.avi", width=32, height=32)
    source.start()
    wait_for(lambda: len(frames) > 0)
    source.stop()
    assert frames[0][1].shape == (32, 32, 3)


def test_calibration_files_are_checked(tmp_path: Path) -> None:
    good = (
        "image_width: 640\nimage_height: 480\ndistortion_model: plumb_bob\n"
        "distortion_coefficients: {data: [0, 0, 0, 0, 0]}\n"
        "camera_matrix: {data: [1, 0, 2, 0, 1, 2, 0, 0, 1]}\n"
        "rectification_matrix: {data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}\n"
        "projection_matrix: {data: [1, 0, 2, 0, 0, 1, 2, 0, 0, 0, 1, 0]}\n"
    )
    path = tmp_path / "c.yaml"
    path.write_text(good)
    assert read_calibration(path).k[2] == 2.0
    path.write_text(good.replace("[1, 0, 2, 0, 1, 2, 0, 0, 1]", "[1, 0, 2]"))
    with pytest.raises(CameraError, match="k has 3 values, expected 9"):
        read_calibration(path)
    path.write_text(good.replace("camera_matrix", "camera_matric"))
    with pytest.raises(CameraError, match="camera_matrix"):
        read_calibration(path)
    with pytest.raises(CameraError, match="calibration_file"):
        read_calibration(tmp_path / "none.yaml")
