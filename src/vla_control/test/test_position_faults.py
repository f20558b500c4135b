# SPDX-License-Identifier: Apache-2.0
"""Motion output: what the command does when something is wrong. It never jumps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from arm import HOME, glide, make_description
from drives import LIMIT, Drives, assert_within_limits, motion_config

import vla_control as vc
from vla_control import Fault, Phase
from vla_control import RejectReason as R

SECOND = 1_000_000_000
MS = 1_000_000


def start_moving(drives: Drives) -> None:
    assert drives.push(glide(drives.tool, [0.12, 0.05, -0.08], [0.0, 0.2, 0.3])) is R.NONE
    drives.run(0.4)
    assert np.abs(drives.log[-1][1]).max() > 0.1


def assert_stands(drives: Drives, seconds: float = 1.0) -> None:
    drives.run(seconds)
    place = drives.log[-1][0]
    drives.run(0.2)
    np.testing.assert_allclose(drives.log[-1][0], place, atol=1e-9)
    assert_within_limits(drives.log, drives.period)


def status(drives: Drives) -> tuple[Phase, Fault]:
    state = drives.controller.state()
    return state.phase, state.fault


def assert_released_by_a_reset(drives: Drives) -> None:
    drives.controller.reset()
    drives.run(0.1)
    assert status(drives) == (Phase.HOLDING, Fault.NONE)
    assert drives.push(glide(drives.tool, [0.05, 0.0, 0.0])) is R.NONE
    drives.run(1.5)
    assert_within_limits(drives.log, drives.period)


def test_stop_and_reset() -> None:
    drives = Drives()
    start_moving(drives)
    drives.controller.stop()
    drives.run(0.02)
    assert status(drives) == (Phase.FAULT, Fault.STOP_REQUESTED)
    drives.controller.reset()  # while it still moves: it waits
    drives.step()
    assert status(drives)[0] is Phase.FAULT
    drives.controller.stop()  # and is overruled
    assert_stands(drives)
    assert status(drives) == (Phase.FAULT, Fault.STOP_REQUESTED)
    assert drives.push(glide(drives.tool, [0.05, 0.0, 0.0])) is R.FAULT
    drives.controller.reset()
    drives.controller.stop()
    drives.run(0.01)
    assert status(drives)[0] is Phase.FAULT
    assert_released_by_a_reset(drives)


def test_a_lost_heartbeat_brakes_to_a_hold() -> None:
    drives = Drives(motion_config(heartbeat_timeout_s=0.1))
    drives.beat = (7, 1)
    drives.run(0.01)
    start_moving(drives)
    drives.beat = None
    assert_stands(drives)
    state = drives.controller.state()
    assert state.heartbeat_lost
    assert state.phase is Phase.HOLDING
    assert drives.push(glide(drives.tool, [0.05, 0.0, 0.0]), boot_id=7, grant=1) is R.OLD_GRANT


def test_a_chunk_that_runs_out() -> None:
    drives = Drives(motion_config(chunk__timeout_s=0.5))
    start_moving(drives)
    drives.run(0.6)
    assert_stands(drives)
    assert status(drives) == (Phase.FAULT, Fault.CHUNK_TIMEOUT)
    assert_released_by_a_reset(drives)


@pytest.mark.parametrize("step_ns", [-1, -10 * SECOND, 101 * MS, 3600 * SECOND])
def test_a_clock_jump(step_ns: int) -> None:
    drives = Drives()
    start_moving(drives)
    drives.step(advance_ns=step_ns)
    assert status(drives) == (Phase.FAULT, Fault.CLOCK_JUMP)
    assert_stands(drives)
    assert_released_by_a_reset(drives)


@pytest.mark.parametrize(
    "poison",
    [
        lambda q, dq: (np.full(7, np.nan), dq),
        lambda q, dq: (q, np.full(7, np.inf)),
        lambda q, dq: (q[:6], dq),
    ],
)
def test_bad_joint_states(
    poison: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> None:
    drives = Drives()
    start_moving(drives)
    for _ in range(3):
        drives.step(*poison(drives.q, drives.dq))
    assert status(drives)[0] is Phase.TRACKING  # bridged
    drives.run(0.05)
    for _ in range(400):
        drives.step(*poison(drives.q, drives.dq))
    assert status(drives) == (Phase.FAULT, Fault.BAD_JOINT_STATE)
    drives.controller.reset()
    drives.step(*poison(drives.q, drives.dq))
    assert status(drives)[0] is Phase.FAULT  # a reset waits for good ones
    assert_stands(drives)
    assert_released_by_a_reset(drives)


@pytest.mark.parametrize("deviation", [0.01, 0.05])
def test_a_blocked_arm_is_let_go(deviation: float) -> None:
    drives = Drives(motion_config(tracking__max_deviation=[deviation] * 7), lag=0.02)
    start_moving(drives)
    drives.blocked = True
    for _ in range(500):
        drives.step()
        if status(drives)[0] is Phase.FAULT:
            break
    assert status(drives) == (Phase.FAULT, Fault.TRACKING_DEVIATION)
    # Found as soon as one joint was off by so much, one cycle's way aside.
    assert np.abs(drives.log[-1][0] - drives.q).max() < deviation + 0.02
    drives.run(1.0)
    np.testing.assert_allclose(drives.log[-1][0], drives.q, atol=1e-6)  # presses no longer
    assert_stands(drives)
    drives.blocked = False
    assert_released_by_a_reset(drives)


def test_the_control_a_free_arm_that_lags_as_declared_is_no_fault() -> None:
    for lag, declared, fault in (
        (0.03, 0.03, Fault.NONE),
        (0.3, 0.0, Fault.TRACKING_DEVIATION),
    ):
        drives = Drives(
            motion_config(tracking__drive_lag_s=declared, tracking__max_deviation=[0.01] * 7),
            lag=lag,
        )
        drives.push(glide(drives.tool, [0.12, 0.05, -0.08], [0.0, 0.2, 0.3]))
        drives.run(1.5)
        assert drives.controller.state().fault is fault


def test_an_arm_that_is_moved_by_others_is_followed_in_fault_only() -> None:
    drives = Drives()
    drives.run(0.05)
    drives.blocked = True
    drives.q = drives.q + 0.3  # as with its brakes released
    drives.step()
    assert status(drives) == (Phase.FAULT, Fault.TRACKING_DEVIATION)
    drives.controller.reset()
    drives.step()
    assert status(drives)[0] is Phase.FAULT  # not where it was commanded to be
    drives.run(3.0)
    np.testing.assert_allclose(drives.log[-1][0], HOME + 0.3, atol=1e-4)
    assert status(drives)[0] is Phase.HOLDING  # now that it is
    drives.q = drives.q - 0.2
    drives.run(3.0)
    np.testing.assert_allclose(drives.log[-1][0], HOME + 0.1, atol=1e-6)
    assert status(drives) == (Phase.FAULT, Fault.TRACKING_DEVIATION)
    assert_within_limits(drives.log, drives.period)


def test_what_an_activation_refuses() -> None:
    controller = vc.Controller(make_description(), motion_config())
    with pytest.raises(ValueError, match="MOVING"):
        controller.activate(HOME, np.full(7, 0.1), 0)
    outside = HOME.copy()
    outside[3] = -LIMIT - 0.001
    with pytest.raises(ValueError, match="OUTSIDE_LIMITS"):
        controller.activate(outside, np.zeros(7), 0)
    with pytest.raises(ValueError, match="finite"):
        controller.activate(np.full(7, np.nan), np.zeros(7), 0)
    # Before there is a command: where the arm is.
    q, dq = controller.update_motion(HOME + 0.1, np.zeros(7), 0, 0.002)
    np.testing.assert_array_equal(q, HOME + 0.1)
    np.testing.assert_array_equal(dq, np.zeros(7))
    controller.activate(HOME, np.zeros(7), 0)


def test_deactivation_leaves_the_last_command_and_activation_begins_anew() -> None:
    drives = Drives()
    start_moving(drives)
    last = drives.log[-1][0]
    drives.controller.deactivate()
    q, dq = drives.controller.update_motion(HOME, np.zeros(7), drives.time_ns, drives.period)
    np.testing.assert_array_equal(q, last)
    np.testing.assert_array_equal(dq, np.zeros(7))
    assert drives.push(glide(drives.tool, [0.05, 0.0, 0.0])) is R.NOT_ACTIVE
    drives.q, drives.dq = HOME + 0.2, np.zeros(7)
    drives.log.clear()
    drives.activate()
    drives.run(0.5)
    np.testing.assert_allclose(drives.log[-1][0], HOME + 0.2, atol=1e-12)
    assert_released_by_a_reset(drives)
