# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_data import ObservationError, Signal, time_ns

NS = 1_000_000_000


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=30), st.integers(-1, 51))
def test_latest_value_not_after_a_time_however_they_arrive(stamps, now):
    signal = Signal("x", 1.0)
    for stamp in stamps:
        signal.append(stamp, f"at {stamp}")
    expected = max((stamp for stamp in stamps if stamp <= now), default=None)
    found = signal.latest(now)
    assert (None if found is None else found.stamp_ns) == expected
    assert found is None or found.value == f"at {expected}"


def test_tolerance_is_in_seconds_and_inclusive():
    signal = Signal("camera 'wrist'", 0.25)
    signal.append(10 * NS, "frame")
    assert signal.at(10 * NS + NS // 4).value == "frame"
    with pytest.raises(ObservationError, match=r"camera 'wrist': is stale: 0\.260 s old"):
        signal.at(10 * NS + 260_000_000)


def test_nothing_and_only_later_values_are_told_apart():
    signal = Signal("joints", 0.1)
    with pytest.raises(ObservationError, match="joints: no value has arrived"):
        signal.at(5)
    signal.append(6, "later")
    with pytest.raises(ObservationError, match="joints: has no value that early"):
        signal.at(5)


def test_the_oldest_values_go_first():
    signal = Signal("x", 1.0, capacity=3)
    for stamp in range(10):
        signal.append(stamp, stamp)
    assert len(signal) == 3
    assert signal.latest(6) is None
    assert signal.latest(7).value == 7
    signal.clear()
    assert len(signal) == 0


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan")])
def test_tolerance_must_be_positive(tolerance):
    with pytest.raises(ValueError, match="tolerance of x"):
        Signal("x", tolerance)


def test_capacity_must_be_positive():
    with pytest.raises(ValueError, match="capacity of x is 0"):
        Signal("x", 1.0, capacity=0)


def test_message_time_in_nanoseconds():
    assert time_ns(SimpleNamespace(sec=2, nanosec=5)) == 2 * NS + 5
