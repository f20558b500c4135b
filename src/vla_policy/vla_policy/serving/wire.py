# SPDX-License-Identifier: Apache-2.0
"""Messages on a policy server's socket: msgpack with arrays of numbers, and nothing that runs code.

Arrays are maps with ``__ndarray__``, ``data``, ``dtype`` and ``shape``, single numbers of NumPy are
maps with ``__npgeneric__``, as openpi writes them, so that one encoding serves both protocols.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

# Bool, signed, unsigned and floating: no objects, no text, no structures.
_KINDS = "biuf"
MAX_MESSAGE_BYTES = 64 * 2**20
_MAX_ENTRIES = 4096


class WireError(ValueError):
    """Bytes that are no message."""


def pack(message: Any) -> bytes:
    """Bytes of a message.

    Raises:
        WireError: If it holds something else than maps, lists, text, bytes, numbers and arrays.
    """
    try:
        packed = msgpack.packb(message, default=_encode)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"this cannot be sent: {error}") from None
    return bytes(packed)


def unpack(data: bytes | str) -> dict[str, Any]:
    """The message in some bytes; its arrays are read-only views of them.

    Raises:
        WireError: If they are no message, or more than ``MAX_MESSAGE_BYTES``.
    """
    if isinstance(data, str):
        raise WireError(f"text, not msgpack: {data[:200]!r}")
    if len(data) > MAX_MESSAGE_BYTES:
        raise WireError(f"{len(data)} bytes; at most {MAX_MESSAGE_BYTES}")
    try:
        message = msgpack.unpackb(
            data,
            object_hook=_decode,
            strict_map_key=False,
            max_array_len=_MAX_ENTRIES,
            max_map_len=_MAX_ENTRIES,
            max_ext_len=0,
        )
    except WireError:
        raise
    except Exception as error:  # msgpack raises several kinds, RecursionError among them
        raise WireError(f"no msgpack message: {type(error).__name__}: {error}") from None
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise WireError("a message must be a map with names as keys")
    return message


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in _KINDS:
        raise WireError(f"arrays of {value.dtype} cannot be sent")
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True,
            b"data": np.ascontiguousarray(value).data.cast("B") if value.size else b"",
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise WireError(f"{type(value).__name__} cannot be sent")


def _decode(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        return _array(value)
    if b"__npgeneric__" in value:
        number = value.get(b"data")
        if not isinstance(number, bool | int | float):
            raise WireError("a number that is none")
        return _dtype(value.get(b"dtype")).type(number)
    return value


def _array(value: dict[Any, Any]) -> npt.NDArray[Any]:
    dtype, data, shape = _dtype(value.get(b"dtype")), value.get(b"data"), value.get(b"shape")
    if not isinstance(data, bytes) or not isinstance(shape, list):
        raise WireError("an array without data and shape")
    size = dtype.itemsize
    for length in shape:
        if not isinstance(length, int) or not 0 <= length < 2**31 or len(shape) > 8:
            raise WireError(f"an array of shape {shape}")
        size *= length
    if size != len(data):
        raise WireError(f"an array of shape {shape} and type {dtype} with {len(data)} bytes")
    return np.ndarray(shape, dtype, data)


def _dtype(name: Any) -> np.dtype[Any]:
    if not isinstance(name, str):
        raise WireError(f"an array of type {name!r}; valid: bool, integers, floating point")
    return _named_dtype(name)


@lru_cache(maxsize=64)  # there are some twenty of them in either byte order
def _named_dtype(name: str) -> np.dtype[Any]:
    # Longer names are structures; NumPy would parse them.
    if len(name) > 4 or name[1:2] not in _KINDS:
        raise WireError(f"an array of type {name!r}; valid: bool, integers, floating point")
    try:
        return np.dtype(name)
    except TypeError as error:
        raise WireError(f"an array of type {name!r}") from error
