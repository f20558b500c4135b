# SPDX-License-Identifier: Apache-2.0
"""Joint and twist chunks, any finite and any garbage: no torque or reference is ever poisoned."""

from __future__ import annotations

import numpy as np
import pytest
from arm import BASE, HOME, JOINTS, TOOL, Plant, make_config
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_control as vc
from vla_control import RejectReason as R

PLANT = Plant(
    config=make_config(
        chunk__accept_joint_positions=True,
        chunk__accept_twists=True,
        chunk__max_slowdown=3.0,
        chunk__joint_velocity_share=0.9,
    )
)
MODES = [vc.ChunkMode.JOINT_POSITION, vc.ChunkMode.TWIST]
LIMIT = np.array([87.0] * 4 + [12.0] * 3)

any_number = st.floats(width=64)
finite = st.floats(allow_nan=False, allow_infinity=False)


def fresh() -> Plant:
    """The arm at home and at rest under a controller that knows nothing."""
    PLANT.q, PLANT.dq, PLANT.time_ns = HOME.copy(), np.zeros(7), 0
    PLANT.controller.activate(PLANT.q, PLANT.dq, PLANT.time_ns)
    return PLANT


def rows(numbers: st.SearchStrategy[float], width: int) -> st.SearchStrategy[list[list[float]]]:
    return st.lists(st.lists(numbers, min_size=width, max_size=width), max_size=66)


def make_chunk(
    plant: Plant, mode: vc.ChunkMode, values: list[list[float]], **more: object
) -> vc.Chunk:
    """A chunk of joint positions or of twists."""
    arguments: dict[str, object] = {
        "stamp_ns": plant.time_ns,
        "step_dt": 0.05,
        "base_frame": BASE,
        "tool_frame": TOOL,
        "mode": mode,
    }
    if mode is vc.ChunkMode.TWIST:
        arguments["twists"] = np.array(values, dtype=float).reshape(-1, 6)
    else:
        arguments["joint_values"] = np.array(values, dtype=float).reshape(-1, 7)
        arguments["joint_names"] = JOINTS
    arguments.update(more)
    return vc.Chunk(**arguments)  # type: ignore[arg-type]


def assert_sane(plant: Plant, cycles: int) -> None:
    """Torques within their limits and a bounded reference, for a while."""
    for _ in range(cycles):
        tau = plant.step()
        assert np.isfinite(tau).all()
        assert (np.abs(tau) <= LIMIT).all()
        state = plant.controller.state()
        assert np.isfinite(state.reference_pose_tool_in_base).all()
        assert np.linalg.norm(state.reference_twist_tool_in_base[:3]) < 1.5
        assert np.linalg.norm(state.reference_acceleration_tool_in_base[:3]) < 40.0


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_garbage_is_rejected_or_harmless(mode: vc.ChunkMode, data: st.DataObject) -> None:
    plant = fresh()
    width = 6 if mode is vc.ChunkMode.TWIST else 7
    more: dict[str, object] = {
        "stamp_ns": data.draw(
            st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-(10**9), 10**9))
        ),
        "step_dt": data.draw(st.one_of(any_number, st.just(0.05))),
        "gripper_opening": data.draw(st.lists(any_number, max_size=4)),
        "grant": data.draw(st.integers(0, 2**64 - 1)),
        "sequence": data.draw(st.integers(0, 2**64 - 1)),
    }
    if mode is vc.ChunkMode.JOINT_POSITION:
        more["joint_names"] = data.draw(
            st.one_of(st.just(JOINTS), st.permutations(JOINTS), st.lists(st.text(), max_size=9))
        )
    values = data.draw(rows(any_number, width))
    reason = plant.controller.push_chunk(make_chunk(plant, mode, values, **more))
    if not values or not np.isfinite(values).all():
        assert reason is not R.NONE
    assert_sane(plant, 20)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_finite_values_are_followed_within_limits_or_rejected(
    mode: vc.ChunkMode, data: st.DataObject
) -> None:
    plant = fresh()
    width = 6 if mode is vc.ChunkMode.TWIST else 7
    values = data.draw(rows(finite, width))
    # Most doubles are absurd; those around what an arm does get further.
    scale = data.draw(st.sampled_from([None, 1e-3, 0.05, 0.3]))
    if scale is not None:
        values = [[scale * float(np.tanh(x)) for x in row] for row in values]
        if mode is vc.ChunkMode.JOINT_POSITION:
            values = [list(HOME + row) for row in np.cumsum(np.array(values).reshape(-1, 7), 0)]
    plant.controller.push_chunk(make_chunk(plant, mode, values))
    assert_sane(plant, 60)


def test_the_checks_themselves_see_what_is_followed() -> None:
    plant = fresh()
    goal = HOME + np.linspace(0.0, 1.0, 20)[:, None] * np.array([0.1] * 7)
    assert plant.controller.push_chunk(make_chunk(plant, MODES[0], goal.tolist())) is R.NONE
    assert_sane(plant, 60)
    assert np.linalg.norm(plant.controller.state().reference_twist_tool_in_base) > 0.01
    for bad in (np.nan, 100.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plant, "step", lambda bad=bad: np.full(7, bad))
            with pytest.raises(AssertionError):
                assert_sane(plant, 1)
