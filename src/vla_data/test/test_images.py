# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from array import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_data import ObservationError, images


def noise(height, width, channels, seed=0):
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
@pytest.mark.parametrize("container", [array, bytes, np.asarray])
def test_raw_image_is_viewed_without_a_copy(encoding, container):
    pixels = noise(5, 4, images.CHANNELS[encoding])
    fields = images.encode(pixels, encoding)
    if container is array:
        data = array("B")
        data.frombytes(fields.data)
    else:
        data = container(fields.data)
    decoded = images.decode(fields.height, fields.width, fields.encoding, fields.step, data)
    assert np.array_equal(decoded, pixels)
    assert np.shares_memory(decoded, np.frombuffer(data, np.uint8))


def test_bytes_on_the_wire_have_the_stated_order():
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    assert bytes(images.encode(red, "rgb8").data) == b"\xff\x00\x00"
    assert bytes(images.encode(red, "bgr8").data) == b"\x00\x00\xff"


def test_contiguous_rgb_is_encoded_without_a_copy():
    pixels = noise(5, 4, 3)
    assert np.shares_memory(np.frombuffer(images.encode(pixels).data, np.uint8), pixels)


@settings(max_examples=50, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 5),
    encoding=st.sampled_from(sorted(images.CHANNELS)),
)
def test_padded_rows_decode_to_the_same_pixels(height, width, padding, encoding):
    channels = images.CHANNELS[encoding]
    wire = noise(height, width, channels)
    step = width * channels + padding
    rows = np.full((height, step), 77, np.uint8)
    rows[:, : width * channels] = wire.reshape(height, -1)
    data = rows.tobytes()
    decoded = images.decode(height, width, encoding, step, data)
    expected = wire[..., ::-1] if encoding == "bgr8" else wire
    assert np.array_equal(decoded, expected)
    assert np.shares_memory(decoded, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoding": "16UC1"}, "encoding '16UC1', expected one of rgb8, bgr8, mono8"),
        ({"height": 0}, "is empty: 4x0"),
        ({"step": 11}, "step 11, too small for 4 columns of rgb8"),
        ({"data": bytes(59)}, "holds 59 bytes, expected 60"),
        ({"data": bytes(61)}, "holds 61 bytes, expected 60"),
        ({"data": [0] * 60}, "list, which is not a byte buffer"),
        ({"data": np.zeros(60)}, "items of 8 bytes"),
    ],
)
def test_fields_that_do_not_fit_are_named(change, message):
    fields = {"height": 5, "width": 4, "encoding": "rgb8", "step": 12, "data": bytes(60)}
    with pytest.raises(ObservationError, match=f"^camera 'wrist': .*{message}"):
        images.decode(**{**fields, **change}, part="camera 'wrist'")


@pytest.mark.parametrize("format", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "JPEG"])
def test_jpeg_keeps_colours_and_names(format):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, :12] = (200, 30, 40)
    pixels[:, 12:] = (20, 60, 220)
    message = SimpleNamespace(format=format, data=images.encode_jpeg(pixels, 95))
    assert images.message_encoding(message) == "jpeg"
    decoded = images.decode_message(message)
    assert decoded.shape == (16, 24, 3)
    assert np.abs(decoded[:, 2].astype(int) - (200, 30, 40)).max() < 12
    assert np.abs(decoded[:, -2].astype(int) - (20, 60, 220)).max() < 12


def test_png_is_exact():
    pixels = noise(7, 9, 3)
    data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    assert np.array_equal(images.decode_compressed("png", data), pixels)


@pytest.mark.parametrize(
    ("format", "data", "message"),
    [
        ("jpeg", b"", "cannot be decompressed"),
        ("jpeg", b"not a picture", "cannot be decompressed"),
        ("tiff", b"x", "compressed format 'tiff', expected one of jpeg, png"),
        ("", b"x", "compressed format ''"),
    ],
)
def test_bad_compressed_image_is_named(format, data, message):
    with pytest.raises(ObservationError, match=message):
        images.decode_compressed(format, data)


def test_other_messages_are_refused():
    with pytest.raises(ObservationError, match="SimpleNamespace is not an image message"):
        images.decode_message(SimpleNamespace(height=1))
    with pytest.raises(ObservationError, match=r"expected \(height, width, 3\) uint8 for rgb8"):
        images.encode(noise(3, 3, 1))
    with pytest.raises(ValueError, match="JPEG quality 101"):
        images.encode_jpeg(noise(3, 3, 3), 101)


def test_grey_becomes_rgb_without_a_copy():
    grey = noise(4, 5, 1)
    rgb = images.to_rgb(grey)
    assert rgb.shape == (4, 5, 3)
    assert np.shares_memory(rgb, grey)
