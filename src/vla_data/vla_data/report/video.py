# SPDX-License-Identifier: Apache-2.0
"""A film of one episode: its cameras side by side, at the rate at which they really ran."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import OutputContainer
from matplotlib import get_data_path
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vla_data import images
from vla_data.cameras import camera_topics
from vla_data.episode_reader import EpisodeReader
from vla_data.synchronisation import NS_PER_S, Signal, time_ns

TICKS_PER_S = 90_000
HISTORY = 16
FOREVER = float("inf")
HEIGHT = 384
GAP = 8
BAR = 64
BACKGROUND = (24, 29, 36)
INK = (236, 240, 244)
FAINT = (150, 160, 172)

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Film:
    """What was written.

    Attributes:
        path: MP4 file.
        thumbnail: PNG file with one frame.
        cameras: Names, from left to right.
        frame_count: Number of frames.
        rate_hz: Mean frame rate by the frames' own stamps; 0 for a single frame.
        duration: From the first frame to the last, s.
        start_ns: Stamp of the first frame.
    """

    path: Path
    thumbnail: Path
    cameras: tuple[str, ...]
    frame_count: int
    rate_hz: float
    duration: float
    start_ns: int


def write_film(
    reader: EpisodeReader, path: Path, caption: str, *, thumbnail: Path | None = None
) -> Film | None:
    """Writes an H.264 film of an episode's cameras.

    A frame is shown when the first camera took one, at the time of its own stamp; the other
    cameras show their latest picture not after it.

    Args:
        reader: The open bag.
        path: MP4 file to write.
        caption: Shown below the pictures, such as the instruction.
        thumbnail: PNG file for one frame; default beside the film.

    Returns:
        What was written, or None without a camera.
    """
    cameras = camera_topics(reader)
    if not cameras:
        return None
    names = {topic: name for name, topic in cameras.items()}
    lead = next(iter(cameras))
    stamps = reader.header_stamps(cameras[lead])
    span = (stamps[-1] - stamps[0]) / NS_PER_S
    rate = (len(stamps) - 1) / span if span > 0.0 else 1.0
    start_ns = reader.start_ns if reader.start_ns is not None else stamps[0]
    pictures: dict[str, Signal[Picture]] = {
        name: Signal(name, FOREVER, HISTORY) for name in cameras
    }
    film = _FilmWriter(path, rate)
    thumbnail_pixels: Picture | None = None

    def show(stamp_ns: int) -> None:
        nonlocal thumbnail_pixels
        found = {name: signal.latest(stamp_ns) for name, signal in pictures.items()}
        panels = {name: sample.value for name, sample in found.items() if sample is not None}
        if len(panels) == len(cameras):
            pixels = _compose(panels, caption, (stamp_ns - start_ns) / NS_PER_S)
            film.add(pixels, stamp_ns)
            if thumbnail_pixels is None or film.count <= len(stamps) // 2:
                thumbnail_pixels = pixels

    waiting: int | None = None
    try:
        for each in reader.messages(list(names)):
            name, stamp_ns = names[each.topic], time_ns(each.message.header.stamp)
            if name == lead:
                # The others' pictures of the same instant may be recorded after this one's.
                if waiting is not None:
                    show(waiting)
                waiting = stamp_ns if waiting is None else max(stamp_ns, waiting)
            pixels = images.to_rgb(images.decode_message(each.message, part=f"camera {name!r}"))
            pictures[name].append(stamp_ns, pixels)
        if waiting is not None:
            show(waiting)
    finally:
        film.close()
    if thumbnail_pixels is None:
        path.unlink(missing_ok=True)
        return None
    still = thumbnail if thumbnail is not None else path.with_suffix(".png")
    Image.fromarray(thumbnail_pixels).save(still)
    return Film(
        path=path,
        thumbnail=still,
        cameras=tuple(cameras),
        frame_count=film.count,
        rate_hz=(film.count - 1) / film.duration if film.duration > 0.0 else 0.0,
        duration=film.duration,
        start_ns=film.start_ns,
    )


class _FilmWriter:
    """An H.264 file whose frames carry their own times; made with the first frame."""

    def __init__(self, path: Path, rate: float) -> None:
        self.count = 0
        self._path = path
        self._rate = Fraction(rate).limit_denominator(1001)
        self._container: OutputContainer | None = None
        self.start_ns = 0
        self._last_ns = 0

    @property
    def duration(self) -> float:
        """From the first frame to the last, s."""
        return (self._last_ns - self.start_ns) / NS_PER_S

    def _open(self, width: int, height: int) -> OutputContainer:
        container = av.open(str(self._path), "w", options={"movflags": "+faststart"})
        stream = container.add_stream(
            "libx264", rate=self._rate, options={"crf": "20", "preset": "veryfast"}
        )
        stream.width = width
        stream.height = height
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS_PER_S)
        stream.codec_context.thread_count = 1
        self._stream = stream
        return container

    def add(self, pixels: Picture, stamp_ns: int) -> None:
        """Adds a frame; one that is not later than the frame before is left out."""
        if self._container is None:
            self._container = self._open(pixels.shape[1], pixels.shape[0])
            self.start_ns = stamp_ns
        elif stamp_ns - self._last_ns < NS_PER_S // TICKS_PER_S + 1:
            return
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.time_base = Fraction(1, TICKS_PER_S)
        frame.pts = round((stamp_ns - self.start_ns) * TICKS_PER_S / NS_PER_S)
        self._container.mux(self._stream.encode(frame))
        self._last_ns = stamp_ns
        self.count += 1

    def close(self) -> None:
        """Writes what the encoder still holds."""
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()


def _compose(pictures: dict[str, Picture], caption: str, time: float) -> Picture:
    """Puts pictures side by side over a line of text."""
    panels = [_fit(picture) for picture in pictures.values()]
    width = sum(panel.shape[1] for panel in panels) + GAP * (len(panels) + 1)
    width += width % 2
    canvas = np.empty((GAP + HEIGHT + BAR, width, 3), dtype=np.uint8)
    canvas[:] = BACKGROUND
    left = GAP
    places = []
    for panel in panels:
        canvas[GAP : GAP + HEIGHT, left : left + panel.shape[1]] = panel
        places.append(left)
        left += panel.shape[1] + GAP
    drawing = Image.fromarray(canvas)
    pen = ImageDraw.Draw(drawing)
    small, large = _font(15), _font(22)
    for name, place in zip(pictures, places, strict=True):
        pen.rectangle(
            (place, GAP, place + pen.textlength(name, font=small) + 16, GAP + 26), fill=BACKGROUND
        )
        pen.text((place + 8, GAP + 13), name, font=small, fill=FAINT, anchor="lm")
    baseline = GAP + HEIGHT + BAR // 2
    clock = f"{time:6.2f} s"
    room = width - 4 * GAP - pen.textlength(clock, font=large) - 16
    pen.text(
        (2 * GAP, baseline), _shorten(caption, room, pen, large), font=large, fill=INK, anchor="lm"
    )
    pen.text((width - 2 * GAP, baseline), clock, font=large, fill=FAINT, anchor="rm")
    composed: Picture = np.asarray(drawing)
    return composed


def _fit(picture: Picture) -> Picture:
    """Scales a picture to the film's height."""
    height, width = picture.shape[:2]
    scale = HEIGHT / height
    method = cv2.INTER_CUBIC if scale > 1.0 else cv2.INTER_AREA
    size = (max(2, round(width * scale)), HEIGHT)
    scaled: Picture = cv2.resize(np.ascontiguousarray(picture), size, interpolation=method).astype(
        np.uint8, copy=False
    )
    return scaled


def _shorten(text: str, room: float, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont) -> str:
    if pen.textlength(text, font=font) <= room:
        return text
    while text and pen.textlength(text + "…", font=font) > room:
        text = text[:-1]
    return text + "…"


_FONTS: dict[int, ImageFont.FreeTypeFont] = {}


def _font(size: int) -> ImageFont.FreeTypeFont:
    if size not in _FONTS:
        file = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
        _FONTS[size] = ImageFont.truetype(str(file), size)
    return _FONTS[size]
