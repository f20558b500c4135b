# SPDX-License-Identifier: Apache-2.0
"""The value a signal had at a given time: the latest one not after it.

Live observation and offline conversion share this code. A value is never interpolated, never
taken from the future and never repeated beyond its tolerance.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from typing import Generic, NamedTuple, Protocol, TypeVar

from vla_data.observation import ObservationError

NS_PER_S = 1_000_000_000

T = TypeVar("T")


class Time(Protocol):
    """Anything with the fields of a ``builtin_interfaces/Time``."""

    sec: int
    nanosec: int


class Sample(NamedTuple, Generic[T]):
    """A value and the time it describes."""

    stamp_ns: int
    value: T


def time_ns(time: Time) -> int:
    """Converts a ``builtin_interfaces/Time`` of any origin to ns."""
    return time.sec * NS_PER_S + time.nanosec


class Signal(Generic[T]):
    """A history of stamped values.

    One thread may append while another reads.

    Args:
        name: What the signal is, for errors.
        tolerance: Greatest age at which a value may still be used, s.
        capacity: Number of values to keep, the oldest go first; None keeps all.

    Raises:
        ValueError: If tolerance or capacity is not positive.
    """

    def __init__(self, name: str, tolerance: float, capacity: int | None = None) -> None:
        if not tolerance > 0.0:
            raise ValueError(f"tolerance of {name} is {tolerance} s, expected more than 0")
        if capacity is not None and capacity < 1:
            raise ValueError(f"capacity of {name} is {capacity}, expected at least 1")
        self.name = name
        self.tolerance = tolerance
        self._capacity = capacity
        self._samples: list[Sample[T]] = []
        self._lock = threading.Lock()

    def append(self, stamp_ns: int, value: T) -> None:
        """Adds a value; one that arrives out of order is put in its place.

        Args:
            stamp_ns: Time the value describes, ns.
            value: The value, kept without a copy.
        """
        with self._lock:
            sample = Sample(stamp_ns, value)
            if not self._samples or stamp_ns >= self._samples[-1].stamp_ns:
                self._samples.append(sample)
            else:
                insort(self._samples, sample, key=_stamp)
            if self._capacity is not None and len(self._samples) > self._capacity:
                del self._samples[: len(self._samples) - self._capacity]

    def clear(self) -> None:
        """Forgets everything, as after a jump of the clock."""
        with self._lock:
            self._samples.clear()

    def __len__(self) -> int:
        with self._lock:
            return len(self._samples)

    def latest(self, time_ns: int) -> Sample[T] | None:
        """Gives the latest value not after a time, whatever its age.

        Args:
            time_ns: The time, ns.

        Returns:
            The sample, or None if every value is later or there is none.
        """
        with self._lock:
            index = bisect_right(self._samples, time_ns, key=_stamp)
            return self._samples[index - 1] if index else None

    def at(self, time_ns: int) -> Sample[T]:
        """Gives the latest value not after a time, if it is recent enough.

        Args:
            time_ns: The time, ns.

        Returns:
            The sample.

        Raises:
            ObservationError: If there is none, or it is older than the tolerance.
        """
        sample = self.latest(time_ns)
        if sample is None:
            with self._lock:
                later = bool(self._samples)
            raise ObservationError(
                self.name,
                "has no value that early, only later ones" if later else "no value has arrived",
            )
        age = (time_ns - sample.stamp_ns) / NS_PER_S
        if age > self.tolerance:
            raise ObservationError(
                self.name, f"is stale: {age:.3f} s old, tolerance {self.tolerance:g} s"
            )
        return sample


def _stamp(sample: Sample[T]) -> int:
    return sample.stamp_ns
