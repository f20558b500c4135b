# SPDX-License-Identifier: Apache-2.0
"""Serialised raw images made compressed ones while they are recorded."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from vla_data import images
from vla_data.definitions import Definitions

if TYPE_CHECKING:
    from vla_data.h264 import H264Encoder

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
FORMATS = ("raw", "jpeg", "h264")
"""How a bag may hold images: as they were published, or compressed."""
_LENGTH, _SIZE = struct.Struct("<I"), struct.Struct("<II")
_STAMP_END = 12


class ImageCompressor:
    """Makes ``sensor_msgs/CompressedImage`` of ``sensor_msgs/Image``. Not thread-safe.

    Args:
        form: ``jpeg`` or ``h264``.
        definitions: Where message definitions come from.

    Raises:
        ValueError: If it is neither.
    """

    def __init__(self, form: str, definitions: Definitions) -> None:
        if form not in FORMATS[1:]:
            raise ValueError(f"images {form!r} is not one of {', '.join(FORMATS)}")
        self._form = form
        self._store = definitions.typestore([IMAGE, COMPRESSED_IMAGE])
        self._encoders: dict[str, H264Encoder] = {}

    def topic(self, topic: str) -> str:
        """Topic of the compressed images of a topic."""
        return f"{topic}/{self._form}"

    def takes(self, cdr: bytes) -> bool:
        """Whether an image is of a kind that is compressed: 8 bits, colour or grey.

        Others, such as depth, would lose what they are for.
        """
        try:
            (named,) = _LENGTH.unpack_from(cdr, _STAMP_END)
            place = -(-(_STAMP_END + _LENGTH.size + named) // 4) * 4 + _SIZE.size
            (length,) = _LENGTH.unpack_from(cdr, place)
        except struct.error:
            return False
        place += _LENGTH.size
        name = cdr[place : place + length].rstrip(b"\0").decode(errors="replace")
        return cdr[1] == 1 and name in images.CHANNELS

    def compress(self, topic: str, cdr: bytes) -> bytes:
        """Compresses a serialised image.

        Args:
            topic: Tells cameras apart.
            cdr: Of a ``sensor_msgs/Image``.

        Returns:
            Of a ``sensor_msgs/CompressedImage`` with the same header.

        Raises:
            ObservationError: If it is not a whole image.
            SerdeError: The same.
        """
        message = self._store.deserialize_cdr(memoryview(cdr), IMAGE)
        pixels = images.to_rgb(images.decode_message(message, part=topic))
        if self._form == "jpeg":
            data = images.encode_jpeg(pixels)
        else:
            from vla_data.h264 import H264Encoder  # loads FFmpeg, which other bags do without

            size = (pixels.shape[0], pixels.shape[1])
            if topic not in self._encoders or self._encoders[topic].size != size:
                self._encoders[topic] = H264Encoder(size)
            data = self._encoders[topic].encode(pixels)
        compressed = self._store.types[COMPRESSED_IMAGE](
            header=message.header,  # type: ignore[attr-defined]
            format=self._form,
            data=np.frombuffer(data, dtype=np.uint8),
        )
        return bytes(self._store.serialize_cdr(compressed, COMPRESSED_IMAGE))
