# SPDX-License-Identifier: Apache-2.0
"""Image messages of moving noise, the hardest thing to record: none of it can be compressed."""

from __future__ import annotations

import struct

import numpy as np

from vla_data.definitions import Definitions

IMAGE_TYPE = "sensor_msgs/msg/Image"
_STAMP = slice(4, 12)  # of a message that begins with its header, behind CDR's own
_STRIDE = 3 * 997  # bytes by which the noise moves from one message to the next


class NoiseImages:
    """Makes serialised ``sensor_msgs/Image`` messages, told apart by their stamp."""

    def __init__(self, definitions: Definitions, width: int, height: int, seed: int = 0) -> None:
        """Prepares the noise.

        Args:
            definitions: Where the message's definition comes from.
            width: Columns.
            height: Rows.
            seed: Of the noise.
        """
        self._size = 3 * width * height
        random = np.random.default_rng(seed)
        self._noise = random.integers(0, 256, 2 * self._size, dtype=np.uint8).tobytes()
        store = definitions.typestore([IMAGE_TYPE])
        types = store.types
        image = types[IMAGE_TYPE](
            header=types["std_msgs/msg/Header"](
                stamp=types["builtin_interfaces/msg/Time"](sec=0, nanosec=0), frame_id="camera"
            ),
            height=height,
            width=width,
            encoding="rgb8",
            is_bigendian=0,
            step=3 * width,
            data=np.zeros(self._size, dtype=np.uint8),
        )
        whole = bytes(store.serialize_cdr(image, IMAGE_TYPE))
        start = whole.rindex(struct.pack("<I", self._size)) + 4
        self._head, self._tail = whole[:start], whole[start + self._size :]

    def message(self, number: int, stamp_ns: int) -> bytes:
        """The message of a number.

        Args:
            number: Decides what the image shows.
            stamp_ns: ns.
        """
        start = number * _STRIDE % self._size
        pixels = self._noise[start : start + self._size]
        return stamped(self._head, stamp_ns) + pixels + self._tail


def stamped(message: bytes, stamp_ns: int) -> bytes:
    """A serialised message that begins with a header, with another stamp.

    Args:
        message: Little-endian CDR.
        stamp_ns: ns.
    """
    stamp = struct.pack("<iI", *divmod(stamp_ns, 1_000_000_000))
    return message[: _STAMP.start] + stamp + message[_STAMP.stop :]


def stamp_of(message: bytes) -> int:
    """Stamp of a serialised message that begins with a header, ns."""
    seconds, nanoseconds = struct.unpack("<iI", message[_STAMP])
    return int(seconds * 1_000_000_000 + nanoseconds)
