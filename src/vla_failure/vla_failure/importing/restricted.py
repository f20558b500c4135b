# SPDX-License-Identifier: Apache-2.0
"""Reads pickled dictionaries of arrays without letting the file choose what is called.

A pickle names functions that are called while it is read, so an ordinary reader runs whatever the
file's author wished. This one knows the few names that arrays, tensors and plain values need, and
refuses a file at the first other one, before anything is called. The storages of tensors are nested
files of torch, which ``torch.load`` reads with ``weights_only``.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ..episodes import FailureDetectionError

_MOST_BYTES = 4_000_000_000
# What a file that is not what it should be makes the reader raise.
_DAMAGED = (
    *(pickle.UnpicklingError, AttributeError, EOFError, LookupError, MemoryError),
    *(OSError, RuntimeError, TypeError, ValueError),
)


def read_record(path: Path) -> dict[str, Any]:
    """The dictionary that a file holds; tensors become arrays.

    Raises:
        FailureDetectionError: If the file is anything else, or names anything else.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FailureDetectionError(f"{path} is larger than {_MOST_BYTES} bytes")
        with path.open("rb") as file:
            record = _Reader(file).load()
    except FailureDetectionError as error:
        raise FailureDetectionError(f"{path}: {error}") from error
    except _DAMAGED as error:
        raise FailureDetectionError(f"{path} cannot be read: {error!r}") from error
    if not isinstance(record, dict):
        raise FailureDetectionError(f"{path} holds a {type(record).__name__}, not a dictionary")
    return {str(key): _as_array(value, path) for key, value in record.items()}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """What a name in the file stands for."""
        # NumPy's internals moved in version 2; files of both exist.
        known = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise FailureDetectionError(f"{module}.{name} is nothing that is read here")
        return known()

    def persistent_load(self, pid: Any) -> Any:
        """Nothing is kept outside of the file."""
        raise FailureDetectionError(f"it refers to {pid!r}, outside of the file")


def _array_shell(kind: type, shape: tuple[int, ...], order: bytes) -> Any:
    """NumPy's empty array that is filled afterwards; of no other class."""
    if kind is not np.ndarray:
        raise FailureDetectionError(f"an array of {kind!r}")
    return np.ndarray.__new__(np.ndarray, shape, np.dtype("b"))


def _from_buffer(data: Any, dtype: Any, shape: tuple[int, ...], order: str) -> Any:
    return np.frombuffer(data, dtype=dtype).reshape(shape, order=order)  # type: ignore[call-overload]


def _scalar(dtype: Any, data: bytes) -> Any:
    if dtype.hasobject:
        raise FailureDetectionError(f"a scalar of {dtype}")
    return np.frombuffer(data, dtype=dtype)[0]


def _storage(data: bytes) -> Any:
    import torch

    return torch.load(BytesIO(data), map_location="cpu", weights_only=True)


def _tensor_builder() -> Any:
    from torch._utils import _rebuild_tensor_v2

    return _rebuild_tensor_v2


_ALLOWED: dict[tuple[str, str], Callable[[], Any]] = {
    ("collections", "OrderedDict"): lambda: OrderedDict,
    ("numpy", "dtype"): lambda: np.dtype,
    ("numpy", "ndarray"): lambda: np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): lambda: _array_shell,
    ("numpy.core.multiarray", "scalar"): lambda: _scalar,
    ("numpy.core.numeric", "_frombuffer"): lambda: _from_buffer,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor_builder,
    ("torch.storage", "_load_from_bytes"): lambda: _storage,
}


def _as_array(value: Any, path: Path) -> Any:
    """A tensor as an array; half precisions that NumPy lacks become single."""
    if type(value).__module__ == "torch":
        return value.detach().to("cpu").float().numpy()
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        raise FailureDetectionError(f"{path} holds an array of objects")
    return value
