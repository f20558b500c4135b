# SPDX-License-Identifier: Apache-2.0
"""Which chunks are accepted: a positive control for every reason, and garbage."""

from __future__ import annotations

import numpy as np
import pytest
from arm import BASE, HOME, TOOL, Plant, glide, make_config, make_description, moved
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_control as vc
from vla_control import RejectReason as R

SECOND = 1_000_000_000


def poses_of(plant: Plant, steps: int = 16) -> np.ndarray:
    return glide(plant.pose, [0.03, 0.02, -0.02], [0.0, 0.0, 0.1], steps=steps)


def test_a_good_chunk_is_accepted_and_followed(plant: Plant) -> None:
    assert plant.push(poses_of(plant)) is R.NONE
    plant.step()
    state = plant.controller.state()
    assert state.phase is vc.Phase.TRACKING
    assert state.sequence == 1
    assert (state.chunks_accepted, state.chunks_rejected) == (1, 0)


def with_nan(poses: np.ndarray, row: int = 0) -> np.ndarray:
    out = poses.copy()
    out[3, row, 3] = np.nan
    return out


def scaled_rotation(poses: np.ndarray) -> np.ndarray:
    out = poses.copy()
    out[5, :3, :3] *= 1.2
    return out


def mirrored(poses: np.ndarray) -> np.ndarray:
    out = poses.copy()
    out[5, :3, :3] = -out[5, :3, :3]
    return out


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        (R.EMPTY, {"poses": None}),
        (R.EMPTY, {"poses": np.zeros((0, 4, 4))}),
        (R.TOO_LONG, {"poses": lambda p: np.repeat(p[:1], 65, axis=0)}),
        (R.BAD_SHAPE, {"gripper_opening": [0.01] * 15}),
        (R.BAD_SHAPE, {"gripper_opening": [0.01] * 16, "gripper_max_force": [1.0]}),
        (R.BAD_SHAPE, {"gripper_max_force": [1.0] * 16}),
        (R.NOT_FINITE, {"poses": with_nan}),
        (R.NOT_FINITE, {"step_dt": float("nan")}),
        (R.NOT_FINITE, {"step_dt": float("inf")}),
        (R.NOT_FINITE, {"gripper_opening": [0.01] * 15 + [float("inf")]}),
        (
            R.NOT_FINITE,
            {"gripper_opening": [0.01] * 16, "gripper_max_force": [float("nan")] * 16},
        ),
        (R.BAD_QUATERNION, {"poses": scaled_rotation}),
        (R.BAD_QUATERNION, {"poses": mirrored}),
        (R.BAD_QUATERNION, {"poses": lambda p: np.zeros_like(p)}),
        (R.BAD_STEP, {"step_dt": 0.0}),
        (R.BAD_STEP, {"step_dt": -0.05}),
        (R.BAD_STEP, {"step_dt": 2.0}),
        (R.WRONG_FRAME, {"base_frame": "world"}),
        (R.WRONG_FRAME, {"tool_frame": "link7"}),
        (R.WRONG_FRAME, {"base_frame": ""}),
        (R.STALE, {"stamp_ns": -2 * SECOND}),
        (R.STALE, {"stamp_ns": -(2**63)}),
        (R.FUTURE, {"stamp_ns": 100 * SECOND}),
        (R.FUTURE, {"stamp_ns": 2**63 - 1}),
        (R.UNSUPPORTED_MODE, {"mode": vc.ChunkMode.TWIST}),
        (R.UNSUPPORTED_MODE, {"mode": vc.ChunkMode.JOINT_POSITION}),
        (R.OUT_OF_WORKSPACE, {"poses": lambda p: p + 5.0 * np.eye(4, k=3)}),
        (R.TOO_FAST, {"poses": lambda p: glide(p[0], [1.5, 0, 0], ramp=False)}),
        (R.TOO_FAST, {"poses": lambda p: glide(p[0], [0, 0, 0], [0, 0, 3.0], ramp=False)}),
        (R.TOO_FAST, {"poses": lambda p: np.array([moved(x, [0.6, 0, 0]) for x in p])}),
        (R.TOO_FAST, {"poses": lambda p: np.array([moved(x, [0, 0, 0], [1.5, 0, 0]) for x in p])}),
        (
            R.TOO_FAST,
            {
                "poses": lambda p: np.array(
                    [moved(p[0], [0.045 * (i % 2), 0, 0]) for i in range(16)]
                )
            },
        ),
    ],
)
def test_every_kind_of_bad_chunk_is_rejected_for_its_reason(
    plant: Plant, reason: R, changes: dict[str, object]
) -> None:
    changes = dict(changes)
    poses = changes.pop("poses", poses_of(plant))
    if callable(poses):
        poses = poses(poses_of(plant))
    plant.run(0.01)
    before = plant.controller.state()
    assert plant.controller.push_chunk(plant.chunk(poses, **changes)) is reason
    plant.step()
    state = plant.controller.state()
    assert state.last_reject_reason is reason
    assert (state.chunks_accepted, state.chunks_rejected) == (0, 1)
    assert state.phase is vc.Phase.HOLDING
    np.testing.assert_array_equal(
        state.reference_pose_tool_in_base, before.reference_pose_tool_in_base
    )
    # The chunk it was made from is fine: what was changed is what was rejected.
    assert plant.push(poses_of(plant)) is R.NONE


def test_raw_quaternions_are_checked(plant: Plant) -> None:
    position = plant.pose[:3, 3]
    good = np.concatenate([position, [1.0, 0.0, 0.0, 0.0]])
    for quaternion in ([0, 0, 0, 0], [1, 1, 0, 0], [0.5, 0, 0, 0], [1e300, 0, 0, 0]):
        bad = np.concatenate([position, quaternion])
        chunk = plant.chunk(None, poses_xyz_xyzw=np.array([bad]))
        assert plant.controller.push_chunk(chunk) is R.BAD_QUATERNION
    bad = np.concatenate([position, [np.nan, 0, 0, 1]])
    chunk = plant.chunk(None, poses_xyz_xyzw=np.array([bad]))
    assert plant.controller.push_chunk(chunk) is R.NOT_FINITE
    chunk = plant.chunk(None, poses_xyz_xyzw=np.array([good]))
    np.testing.assert_allclose(chunk.poses[0, :3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-15)


def test_inactive_and_fault_reject(plant: Plant) -> None:
    chunk = plant.chunk(poses_of(plant))
    plant.controller.deactivate()
    assert plant.controller.push_chunk(chunk) is R.NOT_ACTIVE
    fresh = vc.Controller(make_description(), make_config())
    assert fresh.push_chunk(chunk) is R.NOT_ACTIVE
    plant.controller.activate(plant.q, plant.dq, plant.time_ns)
    plant.controller.stop()
    plant.step()
    assert plant.push(poses_of(plant)) is R.FAULT


def test_sequence_must_grow_within_a_grant(plant: Plant) -> None:
    assert plant.push(poses_of(plant), sequence=5) is R.NONE
    assert plant.push(poses_of(plant), sequence=5) is R.OLD_SEQUENCE  # before any update
    plant.step()
    assert plant.push(poses_of(plant), sequence=4) is R.OLD_SEQUENCE
    assert plant.push(poses_of(plant), sequence=6) is R.NONE
    assert plant.push(poses_of(plant), sequence=1, grant=1) is R.NONE  # a new grant counts anew
    assert plant.push(poses_of(plant), sequence=7, grant=0) is R.OLD_GRANT
    plant.controller.activate(plant.q, plant.dq, plant.time_ns)
    assert plant.push(poses_of(plant), sequence=1) is R.NONE


def test_a_chunk_wholly_in_the_past_is_stale(plant: Plant) -> None:
    plant.run(0.9)
    stamp = plant.time_ns - round(0.8 * SECOND)
    assert plant.push(poses_of(plant), stamp_ns=stamp) is R.STALE
    late = plant.time_ns - round(0.7 * SECOND)
    assert plant.push(poses_of(plant), stamp_ns=late) is R.NONE


def test_steps_already_past_may_lie_outside_the_workspace() -> None:
    pose = vc.RobotModel(make_description()).forward_kinematics(HOME)
    floor = float(pose[2, 3]) + 0.01
    plant = Plant(config=make_config(workspace_min=[-2.0, -2.0, floor]))
    plant.run(0.3)
    back = glide(plant.pose, [0.0, 0.0, 0.05], ramp=False)  # above the floor from step 3 on
    assert plant.push(back) is R.OUT_OF_WORKSPACE
    assert plant.push(back, stamp_ns=plant.time_ns - SECOND // 5) is R.NONE


def test_a_rejected_chunk_leaves_no_trace_in_any_later_torque() -> None:
    def torques(poison: bool, accepted: bool = False) -> np.ndarray:
        plant = Plant()
        out = []
        good = glide(plant.pose, [0.05, 0.0, -0.03])
        for cycle in range(400):
            if cycle == 20:
                assert plant.push(good, sequence=1) is R.NONE
            if poison and cycle % 10 == 5:
                assert plant.push(with_nan(good, cycle % 3), sequence=1000) is R.NOT_FINITE
                assert plant.push(np.zeros((3, 4, 4)), sequence=1001) is R.BAD_QUATERNION
            if accepted and cycle == 205:
                assert plant.push(good[::-1], sequence=1000) is R.NONE
            out.append(plant.step())
        return np.array(out)

    clean = torques(poison=False)
    np.testing.assert_array_equal(torques(poison=True), clean)
    # The control: a chunk that is accepted shows.
    assert np.abs(torques(poison=False, accepted=True) - clean).max() > 0.1


numbers = st.one_of(
    st.floats(-1.0, 1.0),
    st.floats(),
    st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1e300, 1e-300]),
)


@pytest.fixture(scope="module")
def shared() -> Plant:
    return Plant()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_garbage_never_poisons_the_torque(shared: Plant, data: st.DataObject) -> None:
    plant = shared
    plant.q, plant.dq, plant.time_ns = HOME.copy(), np.zeros(7), 0
    plant.controller.activate(plant.q, plant.dq, plant.time_ns)
    rows = data.draw(st.lists(st.lists(numbers, min_size=7, max_size=7), max_size=70))
    if data.draw(st.booleans()):  # plausible rotations get further
        rows = [
            [*(plant.pose[:3, 3] + np.nan_to_num(np.clip(r[:3], -0.1, 0.1))), 1, 0, 0, 0]
            for r in rows
        ]
    chunk = vc.Chunk(
        stamp_ns=data.draw(
            st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-(10**8), 10**8))
        ),
        step_dt=data.draw(st.one_of(numbers, st.just(0.05))),
        base_frame=data.draw(st.sampled_from([BASE, "", "world"])),
        tool_frame=data.draw(st.sampled_from([TOOL, TOOL, "x"])),
        gripper_opening=data.draw(st.lists(numbers, max_size=20)),
        gripper_max_force=data.draw(st.one_of(st.none(), st.lists(numbers, max_size=20))),
        boot_id=data.draw(st.integers(0, 2**64 - 1)),
        grant=data.draw(st.integers(0, 2**64 - 1)),
        sequence=data.draw(st.integers(0, 2**64 - 1)),
        poses_xyz_xyzw=np.array(rows, dtype=float).reshape(-1, 7),
    )
    plant.controller.push_chunk(chunk)
    limit = plant.controller.state().tau_limit
    for _ in range(30):
        tau = plant.step()
        assert np.isfinite(tau).all()
        assert np.all(np.abs(tau) <= limit)
        reference = plant.controller.state()
        assert np.isfinite(reference.reference_pose_tool_in_base).all()
        assert np.linalg.norm(reference.reference_twist_tool_in_base[:3]) < 3.0


@settings(max_examples=60, deadline=None)
@given(shape=st.lists(st.integers(0, 5), max_size=4))
def test_arrays_of_a_wrong_shape_are_an_error(shape: list[int]) -> None:
    array = np.zeros(shape)
    for name, fits in (
        ("poses", len(shape) == 3 and shape[1:] == [4, 4]),
        ("poses_xyz_xyzw", len(shape) == 2 and shape[1:] == [7]),
    ):
        if array.size == 0 or fits:
            continue
        with pytest.raises(ValueError, match=name):
            vc.Chunk(0, 0.05, BASE, TOOL, **{name: array})
