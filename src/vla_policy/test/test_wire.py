# SPDX-License-Identifier: Apache-2.0
"""Messages on a policy server's socket carry numbers and text, and nothing else."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_policy.serving import wire

ARRAYS = st.sampled_from(["<f8", "<f4", "|u1", "<i8", "|b1"]).flatmap(
    lambda dtype: st.lists(st.integers(0, 4), max_size=3).map(
        lambda shape: np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    )
)


@given(ARRAYS)
def test_arrays_come_out_as_they_went_in(array: Any) -> None:
    back = wire.unpack(wire.pack({"array": array}))["array"]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.array(["a"]), np.zeros(1, "c8"), {1, 2}, object()]
)
def test_what_could_carry_code_is_not_sent(value: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.pack({"value": value})


def _array(**changes: Any) -> bytes:
    value = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f8", b"shape": [1]}
    value.update({key.encode(): change for key, change in changes.items()})
    return bytes(msgpack.packb({"value": value}))


@pytest.mark.parametrize(
    "data",
    [
        _array(dtype="|O"),
        _array(dtype="<U2"),
        _array(dtype="f8,f8"),
        _array(dtype=5),
        _array(shape=[2]),
        _array(shape=[-1]),
        _array(shape=[2**40, 0]),
        _array(shape=[1] * 9),
        _array(data="text"),
        msgpack.packb([1, 2]),
        msgpack.packb({1: 2}),
        msgpack.packb({"value": msgpack.ExtType(1, b"x")}),
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 100_000,
    ],
)
def test_messages_that_are_none(data: bytes) -> None:
    assert wire.unpack(_array())["value"] == 0.0
    with pytest.raises(wire.WireError):
        wire.unpack(data)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    with suppress(wire.WireError):
        assert isinstance(wire.unpack(data), dict)
