# SPDX-License-Identifier: Apache-2.0
"""Frames from a V4L2 device or a video file, with true stamps, reopened when lost. No rclpy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

OnFrame = Callable[[int, NDArray[np.uint8]], None]


class CameraError(ValueError):
    """A camera's settings or calibration cannot be used."""


@dataclass(frozen=True)
class CameraSettings:
    """How to open a camera. Width and height in px, 0 = as delivered; rate in Hz; times in s."""

    device: str
    width: int = 0
    height: int = 0
    rate: float = 30.0
    loop: bool = True
    reopen_period: float = 1.0
    frame_timeout: float = 2.0

    @property
    def is_file(self) -> bool:
        """Whether the device is a video file."""
        return not self.device.isdigit() and not self.device.startswith("/dev/")


@dataclass(frozen=True)
class Calibration:
    """Intrinsics as in a ROS camera calibration file."""

    width: int
    height: int
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]


def read_calibration(path: Path) -> Calibration:
    """Reads a calibration file (image_width, camera_matrix, distortion_coefficients, ...).

    Raises:
        CameraError: Naming what is missing or of the wrong length.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        matrices = {
            name: tuple(float(value) for value in content[key]["data"])
            for name, key in (
                ("d", "distortion_coefficients"),
                ("k", "camera_matrix"),
                ("r", "rectification_matrix"),
                ("p", "projection_matrix"),
            )
        }
        for name, length in (("k", 9), ("r", 9), ("p", 12)):
            if len(matrices[name]) != length:
                raise CameraError(
                    f"{path}: {name} has {len(matrices[name])} values, expected {length}"
                )
        return Calibration(
            int(content["image_width"]),
            int(content["image_height"]),
            str(content["distortion_model"]),
            **matrices,
        )
    except (KeyError, TypeError) as error:
        raise CameraError(f"{path}: {error} is missing or malformed") from None
    except OSError as error:
        raise CameraError(f"calibration_file: {error}") from None


class CameraSource:
    """Reads frames in a thread of its own and keeps trying while the camera is away.

    A frame is stamped when it has been read: OpenCV does not hand out the driver's own stamp, so
    the device's transport delay is not taken off.
    """

    def __init__(
        self, settings: CameraSettings, now_ns: Callable[[], int], on_frame: OnFrame
    ) -> None:
        """Prepares the thread.

        Args:
            settings: How to open the camera.
            now_ns: ROS time, ns.
            on_frame: Called in the thread with stamp (ns) and RGB image (height, width, 3).
        """
        self.problem = "not started"
        self.frames = 0
        self.losses = 0
        self._settings = settings
        self._now_ns = now_ns
        self._on_frame = on_frame
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None

    def _run(self) -> None:
        while not self._stop.is_set():
            capture = self._open()
            if capture is None:
                self._stop.wait(self._settings.reopen_period)
                continue
            self._read(capture)
            capture.release()
            if self._settings.is_file and not self._settings.loop and self._exists():
                return  # played to its end
            self._stop.wait(self._settings.reopen_period)

    def _exists(self) -> bool:
        device = self._settings.device
        return device.isdigit() or Path(device).exists()

    def _open(self) -> Any:
        settings = self._settings
        if not self._exists():
            self.problem = f"{settings.device} does not exist"
            return None
        if settings.is_file:
            capture = cv2.VideoCapture(settings.device)
        else:
            index = int(settings.device) if settings.device.isdigit() else settings.device
            capture = cv2.VideoCapture(index, cv2.CAP_V4L2)
            if settings.width and settings.height:
                capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.width)
                capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.height)
            capture.set(cv2.CAP_PROP_FPS, settings.rate)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if not capture.isOpened():
            capture.release()
            self.problem = f"{settings.device} cannot be opened"
            return None
        return capture

    def _read(self, capture: Any) -> None:
        """Delivers frames until the camera is lost or the thread is stopped."""
        settings = self._settings
        due = last = time.monotonic()
        while not self._stop.is_set():
            good, bgr = capture.read()
            if settings.is_file and not self._exists():
                good = False
            if not good and settings.is_file and settings.loop and self._exists():
                rewound = capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                good, bgr = capture.read() if rewound else (False, None)
            if good:
                last = time.monotonic()
                self._deliver(bgr)
            elif settings.is_file or time.monotonic() - last > settings.frame_timeout:
                self.problem = f"{settings.device} gives no more frames"
                self.losses += 1
                return
            if settings.is_file:
                due = max(due + 1.0 / settings.rate, time.monotonic() - 1.0 / settings.rate)
                self._stop.wait(max(0.0, due - time.monotonic()))

    def _deliver(self, bgr: NDArray[np.uint8]) -> None:
        stamp_ns = self._now_ns()
        settings = self._settings
        if (
            settings.width
            and settings.height
            and bgr.shape[:2] != (settings.height, settings.width)
        ):
            bgr = cv2.resize(bgr, (settings.width, settings.height), interpolation=cv2.INTER_AREA)
        self.problem = ""
        self.frames += 1
        self._on_frame(stamp_ns, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
