# SPDX-License-Identifier: Apache-2.0
"""When an operator's device is passed on, and for how long, by a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vla_msgs.msg import ActionChunk, ControllerState, ControlOwner
from vla_nodes.teleop import driver as teleop_driver
from vla_nodes.teleop.clutch import Bounds, Input
from vla_nodes.teleop.driver import AGAIN, PERIOD, RECENTLY, SOONEST, STEP_DT, TeleopDriver

UP = Input(twist=np.array([0.0, 0.0, 0.1, 0.0, 0.0, 0.0]))


class Bench:
    """Takes a node's place: keeps what is published, calls the timer, turns the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.sent: list[tuple[float, Any]] = []
        self.calls: dict[str, Callable[[Any], None]] = {}
        monkeypatch.setattr(teleop_driver.time, "monotonic", lambda: self.now)
        self.driver = TeleopDriver(self, "pad", Bounds())  # type: ignore[arg-type]
        owner = ControlOwner(boot_id=1, grant=2, state=ControlOwner.STATE_TELEOP)
        owner.reason = "granted to pad"
        state = ControllerState(boot_id=1, grant=2)
        state.reference_pose_tool_in_base.orientation.w = 1.0
        self.calls["control_owner"](owner)
        self.calls["controller/state"](state)

    def create_publisher(self, _: Any, topic: str, __: Any) -> Any:
        bench = self

        class Publisher:
            def publish(self, message: Any) -> None:
                bench.sent.append((bench.now, message))

        return Publisher()

    def create_subscription(self, _: Any, topic: str, call: Any, __: Any) -> None:
        self.calls[topic] = call

    def create_timer(self, period: float, call: Callable[[], None], **_: Any) -> None:
        assert period == PERIOD
        self.tick = call

    @property
    def chunks(self) -> list[tuple[float, ActionChunk]]:
        return [(at, message) for at, message in self.sent if isinstance(message, ActionChunk)]

    def wait(self, seconds: float) -> None:
        """The timer runs as it does."""
        for _ in range(round(seconds / 0.001)):
            self.now += 0.001
            if round(self.now * 1000) % round(PERIOD * 1000) == 7:
                self.tick()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_what_is_said_is_sent_at_once(bench: Bench) -> None:
    for _ in range(10):
        bench.wait(0.02)
        bench.driver.hold(UP)
        assert bench.chunks[-1][0] == bench.now
    assert len(bench.chunks) == 10, "and only once"


def test_a_device_that_talks_fast_is_passed_on_at_a_bounded_rate(bench: Bench) -> None:
    for _ in range(500):
        bench.wait(0.001)
        bench.driver.hold(UP)
    times = np.array([at for at, _ in bench.chunks])
    assert np.diff(times).min() >= SOONEST - 1e-9
    assert np.diff(times).max() <= SOONEST + 0.002


def test_a_slow_device_is_repeated_and_its_last_word_is_not_followed_for_long(bench: Bench) -> None:
    bench.wait(0.05)
    bench.driver.hold(UP)
    said = bench.now
    bench.wait(1.0)
    times = np.array([at for at, _ in bench.chunks])
    assert len(times) == 2, "it is repeated"
    assert np.diff(times).max() <= AGAIN + PERIOD
    ends = [at + chunk.step_dt for at, chunk in bench.chunks]
    assert max(ends) <= said + RECENTLY + STEP_DT + 1e-9
    claims = [at for at, message in bench.sent if not isinstance(message, ActionChunk)]
    assert max(claims) > max(times), "it keeps the arm for longer"
