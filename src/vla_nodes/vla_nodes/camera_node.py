# SPDX-License-Identifier: Apache-2.0
"""camera_node: a V4L2 device or a video file as Image, CompressedImage and CameraInfo."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vla_nodes import convert
from vla_nodes.camera_source import (
    Calibration,
    CameraError,
    CameraSettings,
    CameraSource,
    read_calibration,
)
from vla_nodes.configs import CameraConfig
from vla_nodes.node_tools import ERROR, IMAGES, OK, RELIABLE, Diagnostics, RateMeter, run
from vla_nodes.parameters import declare


class CameraNode(LifecycleNode):
    """Owns one camera. Encodes only what somebody listens to."""

    def __init__(self) -> None:
        """Declares parameters."""
        super().__init__("camera")
        self.config = declare(self, CameraConfig, "camera_node")
        self._source: CameraSource | None = None
        self._calibration: Calibration | None = None
        self._rate = RateMeter()
        self._diagnostics = Diagnostics(self, self.config.diagnostics_rate, self._health)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Reads the calibration and makes the publishers."""
        config = self.config
        try:
            if config.calibration_file:
                self._calibration = read_calibration(Path(config.calibration_file))
        except CameraError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        topic = f"cameras/{config.camera}"
        create = self.create_lifecycle_publisher
        self._image_pub = create(Image, f"{topic}/image_raw", IMAGES)
        self._compressed_pub = create(CompressedImage, f"{topic}/image_raw/compressed", IMAGES)
        self._info_pub = create(CameraInfo, f"{topic}/camera_info", RELIABLE)
        settings = CameraSettings(
            device=config.device,
            width=config.width,
            height=config.height,
            rate=config.rate,
            loop=config.loop,
            reopen_period=config.reopen_period,
            frame_timeout=config.frame_timeout,
        )
        self._source = CameraSource(settings, self._now_ns, self._on_frame)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts to read frames; a camera that is away is waited for."""
        if self._source is not None:
            self._source.start()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops reading and lets go of the device."""
        self.close()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Undoes the configuration."""
        for publisher in (self._image_pub, self._compressed_pub, self._info_pub):
            self.destroy_lifecycle_publisher(publisher)
        self._source, self._calibration = None, None
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Lets go of the device."""
        if self._source is not None:
            self._source.stop()

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _on_frame(self, stamp_ns: int, rgb: NDArray[np.uint8]) -> None:
        frame = self.config.frame_id
        if self._image_pub.get_subscription_count():
            self._image_pub.publish(convert.to_image(stamp_ns, frame, rgb))
        if self._compressed_pub.get_subscription_count():
            quality = self.config.jpeg_quality
            self._compressed_pub.publish(convert.to_compressed_image(stamp_ns, frame, rgb, quality))
        self._info_pub.publish(
            convert.to_camera_info(stamp_ns, frame, rgb.shape[1], rgb.shape[0], self._calibration)
        )
        self._rate.tick()

    def _health(self) -> tuple[bytes, str, Mapping[str, Any]]:
        source = self._source
        if source is None:
            return OK, "not configured", {}
        values = {
            "frame rate (Hz)": self._rate.rate(),
            "frames": source.frames,
            "losses": source.losses,
        }
        if source.problem:
            return ERROR, source.problem, values
        return OK, f"reads {self.config.device}", values


def main() -> int:
    """Runs the node."""
    return run(CameraNode)


if __name__ == "__main__":
    sys.exit(main())
