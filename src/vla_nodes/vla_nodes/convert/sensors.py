# SPDX-License-Identifier: Apache-2.0
"""Joint states, images and cameras as messages."""

from __future__ import annotations

import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from vla_data import images
from vla_nodes.camera_source import Calibration
from vla_nodes.convert.geometry import header


def to_joint_state(
    stamp_ns: int,
    names: Sequence[str],
    position: Sequence[float],
    velocity: Sequence[float],
    effort: Sequence[float] = (),
) -> JointState:
    """Joint values, rad or m and per second, as a message."""
    return JointState(
        header=header(stamp_ns),
        name=list(names),
        position=[float(value) for value in position],
        velocity=[float(value) for value in velocity],
        effort=[float(value) for value in effort],
    )


def _byte_array(data: bytes | memoryview) -> array.array[int]:
    # Six times faster than to hand the bytes to the constructor.
    filled = array.array("B")
    filled.frombytes(data)
    return filled


def to_image(stamp_ns: int, frame_id: str, rgb: NDArray[np.uint8]) -> Image:
    """An RGB image (height, width, 3) as a message."""
    fields = images.encode(rgb, "rgb8")
    message = Image(header=header(stamp_ns, frame_id), encoding=fields.encoding)
    message.height, message.width, message.step = fields.height, fields.width, fields.step
    message.data = _byte_array(fields.data)
    return message


def to_compressed_image(
    stamp_ns: int, frame_id: str, rgb: NDArray[np.uint8], quality: int
) -> CompressedImage:
    """An RGB image (height, width, 3) as a JPEG message."""
    data = _byte_array(images.encode_jpeg(rgb, quality))
    return CompressedImage(header=header(stamp_ns, frame_id), format="jpeg", data=data)


def pinhole(width: int, height: int, vertical_fov: float) -> CameraInfo:
    """Camera parameters of an ideal pinhole with square pixels; ``vertical_fov`` in rad."""
    focal = 0.5 * height / np.tan(0.5 * vertical_fov)
    cx, cy = 0.5 * width, 0.5 * height
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
    message.d = [0.0] * 5
    message.k = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def to_camera_info(
    stamp_ns: int, frame_id: str, width: int, height: int, calibration: Calibration | None
) -> CameraInfo:
    """A calibration as a message. Without one, K stays zero, which means uncalibrated."""
    message = CameraInfo(header=header(stamp_ns, frame_id), width=width, height=height)
    if calibration is not None:
        message.distortion_model = calibration.distortion_model
        message.d = list(calibration.d)
        message.k = list(calibration.k)
        message.r = list(calibration.r)
        message.p = list(calibration.p)
    return message
