# SPDX-License-Identifier: Apache-2.0
"""Films with one frame per row, written and read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vla_data.h264 import PIXEL_FORMAT, full_colour_frame

# Encoder, pixel format and options by codec. A key frame every other frame keeps any row at hand.
# In small pictures colour at half resolution is most of what is lost, so H.264 has all of it.
ENCODERS = {
    "h264": ("libx264", PIXEL_FORMAT, {"crf": "18", "preset": "ultrafast", "g": "2", "bf": "0"}),
    "av1": ("libsvtav1", "yuv420p", {"crf": "24", "preset": "10", "g": "2"}),
}


class FilmWriter(AbstractContextManager["FilmWriter", None]):
    """An MP4 file of a constant rate.

    Args:
        path: To write.
        codec: One of `ENCODERS`.
        rate: Frames per second.
        size: ``(height, width)``, px, both even.

    Raises:
        ValueError: If codec or size is not valid.
    """

    def __init__(self, path: Path, codec: str, rate: int, size: tuple[int, int]) -> None:
        if codec not in ENCODERS:
            raise ValueError(f"codec {codec!r} is not one of {', '.join(ENCODERS)}")
        height, width = size
        if height % 2 or width % 2:
            raise ValueError(f"pictures of {width}x{height} px; a film needs even numbers")
        encoder, pixel_format, options = ENCODERS[codec]
        self._container = av.open(str(path), "w", options={"movflags": "+faststart"})
        stream = cast(VideoStream, self._container.add_stream(encoder, rate=rate, options=options))
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.thread_count = 1
        self._stream = stream
        self._count = 0

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Adds the next frame, ``(height, width, 3)`` uint8 RGB."""
        if self._stream.pix_fmt == PIXEL_FORMAT:
            frame = full_colour_frame(pixels)
        else:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts = self._count
        frame.time_base = self._stream.codec_context.time_base
        self._container.mux(self._stream.encode(frame))
        self._count += 1

    def close(self) -> None:
        """Writes what the encoder still holds."""
        if self._count:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def read_film(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames of a film in order, ``(height, width, 3)`` uint8 RGB."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
