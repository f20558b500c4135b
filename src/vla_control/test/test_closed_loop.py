# SPDX-License-Identifier: Apache-2.0
"""The whole controller against an integrated rigid-body plant."""

from __future__ import annotations

import numpy as np
import pytest
from arm import HOME, JOINTS, Plant, glide, make_config, make_description, moved

import vla_control as vc
from vla_control import RejectReason as R

SECOND = 1_000_000_000
SOFT = np.diag([200.0] * 3 + [20.0] * 3)


def errors(states: list[vc.ControllerState]) -> tuple[float, float]:
    """Largest position (m) and rotation (rad) error of the tool against the reference."""
    position = max(
        np.linalg.norm(s.reference_pose_tool_in_base[:3, 3] - s.pose_tool_in_base[:3, 3])
        for s in states
    )
    turn = max(
        np.linalg.norm(
            vc.so3_log(s.reference_pose_tool_in_base[:3, :3] @ s.pose_tool_in_base[:3, :3].T)
        )
        for s in states
    )
    return float(position), float(turn)


def unlimited(states: list[vc.ControllerState]) -> bool:
    return not any(
        s.torque_saturated or s.torque_rate_saturated or s.wrench_saturated for s in states
    )


@pytest.mark.parametrize(
    "mount",
    [{}, {"base_xyz": "0.5 -0.2 1.1", "base_rpy": "0.7 -1.2 2.5"}, {"base_rpy": "3.14159 0 0"}],
    ids=["upright", "tilted", "hanging"],
)
def test_chunks_are_followed_closely_in_any_mounting(mount: dict[str, str]) -> None:
    plant = Plant(description=make_description(**mount))
    start = plant.pose
    states = []
    for k in range(4):  # eight of sixteen steps executed between chunks, as a policy would
        whole = glide(start, [0.12, 0.1, -0.1], [0.2, 0.3, 0.4], steps=33)
        poses = np.array([whole[min(8 * k + i, 32)] for i in range(16)])
        assert plant.push(poses) is R.NONE
        states += plant.run(0.4)
    states += plant.run(1.0)
    position, turn = errors(states)
    assert position < 1.5e-3
    assert turn < 1.5e-2
    assert unlimited(states)
    np.testing.assert_allclose(plant.pose, whole[-1], atol=1e-3)


def test_a_robot_that_adds_gravity_itself() -> None:
    plant = Plant(config=make_config(command_includes_gravity=False))
    gravity = plant.model.gravity.linear.copy()
    plant.model.gravity.linear = np.zeros(3)  # the robot compensates its weight
    assert np.abs(gravity).max() > 9
    plant.run(0.3)
    np.testing.assert_allclose(plant.q, HOME, atol=1e-9)
    assert plant.push(glide(plant.pose, [0.1, 0.0, -0.05])) is R.NONE
    assert errors(plant.run(1.2))[0] < 1.5e-3


def test_an_arm_that_takes_the_base_for_the_world_would_be_seen() -> None:
    """The control of the mountings: it does not know which way is down, and sinks."""
    plant = Plant(description=make_description(base_rpy="0.7 -1.2 2.5"))
    plant.controller = vc.Controller(make_description(), make_config())
    plant.controller.activate(plant.q, plant.dq, plant.time_ns)
    assert errors(plant.run(0.3))[0] > 0.02


def test_the_law_behaves_the_same_at_every_rate() -> None:
    def trajectory(rate: float, gain_ramp_s: float = 0.4) -> np.ndarray:
        plant = Plant(
            config=make_config(rate=rate, gain_ramp_s=gain_ramp_s),
            rate=rate,
            substeps=round(4000 / rate),
        )
        goal = glide(plant.pose, [0.1, 0.08, -0.1], [0.2, 0.1, 0.3])
        plant.push(goal)
        out = []
        for i in range(round(1.2 * rate)):
            plant.step()
            if i + 1 == round(0.5 * rate):
                # The same motion, 20 mm off. (Begun anew it would be 110 mm off, and how that is
                # blended depends on the millisecond in which it is taken up.)
                other = np.array([moved(p, [0.0, 0.02, 0.0]) for p in goal])
                assert plant.push(other, stamp_ns=0) is R.NONE
            if i + 1 == round(0.9 * rate):
                plant.wrench[:3] = [0.0, 0.0, 10.0]
                assert plant.controller.set_gains(vc.TaskGains(SOFT))
            if (i + 1) % round(rate / 50) == 0:
                out.append(plant.pose[:3, 3])
        return np.array(out)

    reference = trajectory(1000)
    assert np.linalg.norm(np.ptp(reference, axis=0)) > 0.1
    for rate in (250, 500):
        assert np.abs(trajectory(rate) - reference).max() < 1e-3
        # The control: one time constant that counts cycles instead of seconds.
        assert np.abs(trajectory(rate, 0.4 * 1000 / rate) - reference).max() > 2e-3


@pytest.mark.parametrize("rate", [250.0, 500.0, 1000.0])
def test_every_law_is_stable_at_every_rate_with_a_cycle_of_delay(rate: float) -> None:
    plant = Plant(config=make_config(rate=rate), rate=rate, substeps=round(4000 / rate))
    plant.push(glide(plant.pose, [0.1, 0.05, -0.05]))
    late: np.ndarray | None = None
    original = plant.controller.update

    class Delayed:
        def __getattr__(self, name: str) -> object:
            return getattr(controller, name)

        def update(self, *arguments: object) -> np.ndarray:
            nonlocal late
            now = original(*arguments)  # type: ignore[arg-type]
            out, late = (now if late is None else late), now
            return out

    controller = plant.controller
    plant.controller = Delayed()  # type: ignore[assignment]
    plant.run(1.5)
    assert np.abs(plant.dq).max() < 1e-2
    controller.stop()
    plant.run(2.0)  # the joint hold takes over
    plant.dq = plant.dq + 0.05
    plant.run(1.5)
    assert np.abs(plant.dq).max() < 1e-3


def test_a_push_is_answered_with_the_configured_stiffness() -> None:
    for axis, stiffness in enumerate((600.0, 300.0, 900.0)):
        plant = Plant(
            config=make_config(
                translational_stiffness=[600.0, 300.0, 900.0], nullspace_stiffness=0.0
            )
        )
        start = plant.pose
        plant.wrench[axis] = 6.0
        plant.run(2.5)
        deflection = plant.pose[:3, 3] - start[:3, 3]
        assert deflection[axis] == pytest.approx(6.0 / stiffness, rel=0.03)


def test_a_light_joint_at_its_torque_limit_is_reported() -> None:
    plant = Plant(config=make_config(torque_limit=[87.0] * 4 + [1.0] * 3))
    plant.wrench[3:] = [0.0, 5.0, 0.0]
    states = plant.run(0.5)
    assert any(s.torque_saturated for s in states)
    assert max(np.abs(s.tau_command).max() for s in states) <= 87.0
    assert max(np.abs(s.tau_command[4:]).max() for s in states) <= 1.0


def test_the_error_clip_bounds_the_force_far_from_the_reference() -> None:
    plant = Plant(config=make_config(max_position_error=0.02))
    plant.wrench[:3] = [40.0, 0.0, 0.0]
    states = plant.run(1.0)
    last = states[-1]
    assert last.wrench_saturated
    error = last.reference_pose_tool_in_base[:3, 3] - last.pose_tool_in_base[:3, 3]
    assert np.linalg.norm(error) > 0.03
    spring = last.wrench_command[:3] / np.linalg.norm(error) * 0.02
    assert np.linalg.norm(spring) < 600 * 0.02 * 4  # not 600 N/m over the whole error


def test_chunks_that_disagree_do_not_make_the_torque_jump() -> None:
    plant = Plant()
    start = plant.pose
    rng = np.random.default_rng(0)
    states = []
    for _ in range(20):  # a new, disagreeing chunk every 100 ms, in the middle of cross-fades
        offset = rng.uniform(-0.004, 0.004, 3)
        poses = np.array([moved(p, offset) for p in glide(start, [0.05, 0.05, 0.0])])
        assert plant.push(poses) is R.NONE
        states += plant.run(0.1)
    assert unlimited(states)
    torques = np.array([s.tau_command for s in states])
    assert np.abs(np.diff(torques, axis=0)).max() < 1.2
    accelerations = np.array([s.reference_acceleration_tool_in_base for s in states])
    assert np.abs(np.diff(accelerations, axis=0)).max() < 1.0


def test_six_joints_work_without_a_nullspace() -> None:
    description = make_description()
    description.joint_names = [j for j in JOINTS if j != "joint3"]
    description.locked_joints = {"joint3": HOME[2]}
    plant = Plant(description=description, q=np.delete(HOME, 2))
    assert plant.push(glide(plant.pose, [0.06, 0.05, -0.06])) is R.NONE
    states = plant.run(1.3)
    assert errors(states)[0] < 1.5e-3
    assert unlimited(states)
