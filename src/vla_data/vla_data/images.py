# SPDX-License-Identifier: Apache-2.0
"""Images as messages carry them, to and from numpy.

This is the one place where image messages become arrays and arrays become image messages. The
functions take the plain fields of ``sensor_msgs/Image`` and ``sensor_msgs/CompressedImage``, so
that a message from rclpy (``array.array``) and one from a bag (``numpy.ndarray``) work alike.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeGuard

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_data.observation import ObservationError

CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}
COMPRESSED_ENCODINGS = ("jpeg", "png", "h264")
ENCODINGS = (*CHANNELS, *COMPRESSED_ENCODINGS)


class ImageFields(NamedTuple):
    """The fields of a ``sensor_msgs/Image`` besides its header."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


class RawImage(Protocol):
    """Anything with the fields of a ``sensor_msgs/Image``."""

    height: int
    width: int
    encoding: str
    step: int
    data: object


class CompressedImage(Protocol):
    """Anything with the fields of a ``sensor_msgs/CompressedImage``."""

    format: str
    data: object


def _has(message: object, fields: dict[str, object]) -> bool:
    # A tenth of the time that isinstance takes with a protocol, and this is done for every image.
    return all(hasattr(message, field) for field in fields)


def _is_raw(message: object) -> TypeGuard[RawImage]:
    return _has(message, RawImage.__annotations__)


def _is_compressed(message: object) -> TypeGuard[CompressedImage]:
    return _has(message, CompressedImage.__annotations__)


def _bytes_view(part: str, data: object) -> NDArray[np.uint8]:
    """Views a byte buffer as ``(bytes,)`` uint8 without a copy."""
    try:
        view = memoryview(data)  # type: ignore[arg-type]
    except TypeError:
        raise ObservationError(
            part, f"data is {type(data).__name__}, which is not a byte buffer"
        ) from None
    if view.itemsize != 1:
        raise ObservationError(part, f"data has items of {view.itemsize} bytes, expected bytes")
    if not view.contiguous:
        raise ObservationError(part, "data is not contiguous")
    return np.frombuffer(view, dtype=np.uint8)


def decode(
    height: int, width: int, encoding: str, step: int, data: object, *, part: str = "image"
) -> NDArray[np.uint8]:
    """Views the pixels of a raw image message as an array, without a copy.

    Args:
        height: Rows.
        width: Columns.
        encoding: One of ``rgb8``, ``bgr8`` and ``mono8``.
        step: Bytes from one row to the next; rows may be padded.
        data: Any byte buffer that holds ``height * step`` bytes.
        part: Name for errors.

    Returns:
        A view on ``data``: ``(height, width, 3)`` uint8 in RGB order, or ``(height, width, 1)``
        for ``mono8``. For ``bgr8`` its last stride is negative.

    Raises:
        ObservationError: If the fields do not fit together or the encoding is not known.
    """
    channels = CHANNELS.get(encoding)
    if channels is None:
        raise ObservationError(
            part, f"has encoding {encoding!r}, expected one of {', '.join(CHANNELS)}"
        )
    if height <= 0 or width <= 0:
        raise ObservationError(part, f"is empty: {width}x{height} pixels")
    row = width * channels
    if step < row:
        raise ObservationError(
            part, f"has step {step}, too small for {width} columns of {encoding} ({row} bytes)"
        )
    flat = _bytes_view(part, data)
    if flat.size != height * step:
        raise ObservationError(
            part,
            f"holds {flat.size} bytes, expected {height * step} ({height} rows of {step})",
        )
    pixels = flat.reshape(height, step)[:, :row].reshape(height, width, channels)
    return pixels[:, :, ::-1] if encoding == "bgr8" else pixels


def decode_compressed(format: str, data: object, *, part: str = "image") -> NDArray[np.uint8]:
    """Decompresses a compressed image message.

    Args:
        format: As in the message: ``jpeg``, ``png``, ``h264`` (one key frame) or, as
            image_transport writes it, ``rgb8; jpeg compressed bgr8``.
        data: Byte buffer with the compressed image.
        part: Name for errors.

    Returns:
        ``(height, width, 3)`` uint8 in RGB order.

    Raises:
        ObservationError: If the format is not known or the data is damaged.
    """
    encoding = compressed_encoding(format, part=part)
    flat = _bytes_view(part, data)
    if encoding == "h264":
        from vla_data import h264  # loads FFmpeg, which live images do without

        try:
            return h264.decode(flat)
        except h264.H264Error as error:
            raise ObservationError(part, f"{error} ({flat.size} bytes)") from None
    bgr = cv2.imdecode(flat, cv2.IMREAD_COLOR) if flat.size else None
    if bgr is None:
        raise ObservationError(part, f"cannot be decompressed ({flat.size} bytes of {format!r})")
    rgb: NDArray[np.uint8] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    return rgb


def compressed_encoding(format: str, *, part: str = "image") -> str:
    """Says which of the known compressions a ``CompressedImage.format`` means.

    Args:
        format: The message's field.
        part: Name for errors.

    Returns:
        One of `COMPRESSED_ENCODINGS`.

    Raises:
        ObservationError: If it is none of them.
    """
    codec = format.split(";")[-1].split()
    name = {"jpg": "jpeg"}.get(codec[0].lower(), codec[0].lower()) if codec else ""
    if name not in COMPRESSED_ENCODINGS:
        raise ObservationError(
            part,
            f"has compressed format {format!r}, expected one of {', '.join(COMPRESSED_ENCODINGS)}",
        )
    return name


def decode_message(message: object, *, part: str = "image") -> NDArray[np.uint8]:
    """Turns any image message into an array; see `decode` and `decode_compressed`.

    Args:
        message: A ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``, from rclpy or a bag.
        part: Name for errors.

    Returns:
        ``(height, width, 3)`` uint8 RGB, or ``(height, width, 1)`` for ``mono8``.

    Raises:
        ObservationError: If it is not an image message, or a bad one.
    """
    if _is_raw(message):
        return decode(
            message.height,
            message.width,
            message.encoding,
            message.step,
            message.data,
            part=part,
        )
    if _is_compressed(message):
        return decode_compressed(message.format, message.data, part=part)
    raise ObservationError(part, f"{type(message).__name__} is not an image message")


def message_encoding(message: object, *, part: str = "image") -> str:
    """Names the encoding of an image message as an observation contract states it.

    Args:
        message: A ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``.
        part: Name for errors.

    Returns:
        The raw encoding, or one of `COMPRESSED_ENCODINGS`.

    Raises:
        ObservationError: If it is not an image message.
    """
    if _is_raw(message):
        return message.encoding
    if _is_compressed(message):
        return compressed_encoding(message.format, part=part)
    raise ObservationError(part, f"{type(message).__name__} is not an image message")


def to_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeats a single grey channel three times, without a copy; leaves RGB alone.

    Args:
        image: ``(height, width, 1)`` or ``(height, width, 3)`` uint8.

    Returns:
        ``(height, width, 3)`` uint8.
    """
    if image.shape[2] == 1:
        return np.broadcast_to(image, (*image.shape[:2], 3))
    return image


def encode(image: NDArray[np.uint8], encoding: str = "rgb8") -> ImageFields:
    """Gives the fields of a ``sensor_msgs/Image`` for an array.

    A contiguous RGB array is viewed, not copied. To fill an rclpy message fast, use
    ``array.array("B")`` and its ``frombytes(fields.data)``.

    Args:
        image: ``(height, width, 3)`` uint8 in RGB order, or ``(height, width, 1)`` for ``mono8``.
        encoding: One of ``rgb8``, ``bgr8`` and ``mono8``.

    Returns:
        The fields; ``data`` is a flat view of bytes.

    Raises:
        ObservationError: If array and encoding do not fit together.
    """
    channels = CHANNELS.get(encoding)
    if channels is None:
        raise ObservationError(
            "image", f"has encoding {encoding!r}, expected one of {', '.join(CHANNELS)}"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels:
        raise ObservationError(
            "image",
            f"has shape {image.shape} and dtype {image.dtype}, "
            f"expected (height, width, {channels}) uint8 for {encoding}",
        )
    pixels = image[:, :, ::-1] if encoding == "bgr8" else image
    height, width = image.shape[:2]
    flat = np.ascontiguousarray(pixels).reshape(-1)
    return ImageFields(height, width, encoding, 0, width * channels, flat.data)


def encode_jpeg(image: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Compresses an RGB image for a ``sensor_msgs/CompressedImage`` of format ``jpeg``.

    Args:
        image: ``(height, width, 3)`` uint8 in RGB order.
        quality: JPEG quality, 1 to 100.

    Returns:
        The JPEG file.

    Raises:
        ObservationError: If the image has another shape or dtype.
        ValueError: If the quality is out of range.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality {quality} is not within 1 to 100")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ObservationError(
            "image",
            f"has shape {image.shape} and dtype {image.dtype}, expected (height, width, 3) uint8",
        )
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ObservationError("image", f"of shape {image.shape} cannot be compressed")
    return bytes(data.data)
