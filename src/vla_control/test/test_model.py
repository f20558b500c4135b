# SPDX-License-Identifier: Apache-2.0
"""The model against pinocchio's own Python bindings, frames, locked joints and errors."""

from __future__ import annotations

import numpy as np
import pinocchio
import pytest
from arm import BASE, HOME, JOINTS, TOOL, make_description, make_urdf, reduced_pinocchio

import vla_control as vc


def tool_in_base(model: pinocchio.Model, q: np.ndarray) -> pinocchio.SE3:
    data = model.createData()
    pinocchio.framesForwardKinematics(model, data, q)
    return data.oMf[model.getFrameId(BASE)].inverse() * data.oMf[model.getFrameId(TOOL)]


@pytest.mark.parametrize(
    "mount",
    [{}, {"base_xyz": "0.5 -0.2 1.1", "base_rpy": "0.7 -1.2 2.5"}],
    ids=["upright", "tilted"],
)
def test_parity_with_the_python_bindings(mount: dict[str, str]) -> None:
    description = make_description(**mount)
    ours, theirs = vc.RobotModel(description), reduced_pinocchio(description)
    data = theirs.createData()
    frame = theirs.getFrameId(TOOL)
    turn = np.kron(np.eye(2), tool_in_base_rotation(theirs))
    rng = np.random.default_rng(1)
    for _ in range(20):
        q, dq = rng.uniform(-2, 2, 7), rng.uniform(-2, 2, 7)
        np.testing.assert_allclose(
            ours.forward_kinematics(q), tool_in_base(theirs, q).homogeneous, atol=1e-12
        )
        jacobian = pinocchio.computeFrameJacobian(
            theirs, data, q, frame, pinocchio.LOCAL_WORLD_ALIGNED
        )
        np.testing.assert_allclose(ours.jacobian(q), turn @ jacobian, atol=1e-12)
        mass = pinocchio.crba(theirs, data, q)
        mass = np.triu(mass) + np.triu(mass, 1).T
        np.testing.assert_allclose(ours.mass_matrix(q), mass, atol=1e-12)
        gravity = pinocchio.computeGeneralizedGravity(theirs, data, q)
        np.testing.assert_allclose(ours.gravity(q), gravity, atol=1e-12)
        bias = pinocchio.nonLinearEffects(theirs, data, q, dq)
        np.testing.assert_allclose(ours.coriolis(q, dq), bias - gravity, atol=1e-11)


def tool_in_base_rotation(model: pinocchio.Model) -> np.ndarray:
    """Rotation that takes world axes to base axes."""
    return np.asarray(model.frames[model.getFrameId(BASE)].placement.rotation.T)


def test_the_jacobian_is_the_derivative_of_the_kinematics_in_a_tilted_base() -> None:
    model = vc.RobotModel(make_description(base_xyz="0.3 0 0.5", base_rpy="1.1 0.4 -2"))
    h = 1e-6
    for joint in range(7):
        step = h * np.eye(7)[joint]
        before, after = model.forward_kinematics(HOME - step), model.forward_kinematics(HOME + step)
        linear = (after[:3, 3] - before[:3, 3]) / (2 * h)
        angular = vc.so3_log(after[:3, :3] @ before[:3, :3].T) / (2 * h)
        np.testing.assert_allclose(
            model.jacobian(HOME)[:, joint], np.concatenate([linear, angular]), atol=1e-8
        )


def test_joint_order_is_that_of_the_description() -> None:
    shuffled = [JOINTS[i] for i in (3, 0, 6, 1, 5, 2, 4)]
    order = np.array([JOINTS.index(name) for name in shuffled])
    plain = vc.RobotModel(make_description())
    model = vc.RobotModel(vc.RobotDescription(make_urdf(), shuffled, BASE, TOOL))
    assert model.joint_names == shuffled
    q, dq = HOME[order], np.linspace(-1, 1, 7)[order]
    np.testing.assert_allclose(model.forward_kinematics(q), plain.forward_kinematics(HOME))
    np.testing.assert_allclose(model.jacobian(q), plain.jacobian(HOME)[:, order])
    np.testing.assert_allclose(
        model.mass_matrix(q), plain.mass_matrix(HOME)[np.ix_(order, order)], atol=1e-14
    )
    np.testing.assert_allclose(model.gravity(q), plain.gravity(HOME)[order])
    np.testing.assert_allclose(
        model.coriolis(q, dq), plain.coriolis(HOME, np.linspace(-1, 1, 7))[order], atol=1e-12
    )
    np.testing.assert_allclose(model.effort_limit, plain.effort_limit[order])


def test_a_joint_without_limits_is_an_angle_like_any_other() -> None:
    urdf = make_urdf().replace(
        '<joint name="joint7" type="revolute">', '<joint name="joint7" type="continuous">'
    )
    continuous = vc.RobotModel(vc.RobotDescription(urdf, JOINTS, BASE, TOOL))
    plain = vc.RobotModel(make_description())
    np.testing.assert_allclose(
        continuous.forward_kinematics(HOME), plain.forward_kinematics(HOME), atol=1e-12
    )
    np.testing.assert_allclose(continuous.jacobian(HOME), plain.jacobian(HOME), atol=1e-12)
    assert np.isinf(continuous.position_upper[6])


def test_locked_joints_are_locked_where_asked() -> None:
    closed = vc.RobotModel(vc.RobotDescription(make_urdf(), JOINTS, BASE, TOOL))
    opened = vc.RobotModel(
        vc.RobotDescription(make_urdf(), JOINTS, BASE, TOOL, {"finger_joint": 0.04})
    )
    assert np.abs(closed.gravity(HOME) - opened.gravity(HOME)).max() > 1e-3
    five = vc.RobotModel(
        vc.RobotDescription(
            make_urdf(), JOINTS[:5], BASE, TOOL, {"joint6": HOME[5], "joint7": HOME[6]}
        )
    )
    np.testing.assert_allclose(
        five.forward_kinematics(HOME[:5]), closed.forward_kinematics(HOME), atol=1e-12
    )


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"tool_frame": "hand"}, ["hand", TOOL, "link7"]),
        ({"base_frame": "panda_link0"}, ["panda_link0", BASE, "world"]),
        ({"base_frame": "link3"}, ["link3", "joint3"]),
        ({"tool_frame": "world"}, ["world"]),
        ({"joint_names": [*JOINTS, "joint8"]}, ["joint8", "joint7"]),
        ({"joint_names": [*JOINTS, "joint1"]}, ["joint1", "twice"]),
        ({"joint_names": []}, ["0 names"]),
        ({"locked_joints": {"thumb": 0.1}}, ["thumb", "finger_joint"]),
        ({"locked_joints": {"joint1": 0.1}}, ["joint1"]),
        ({"locked_joints": {"finger_joint": float("nan")}}, ["finger_joint", "finite"]),
        ({"urdf_xml": "<robot"}, ["urdf_xml"]),
    ],
)
def test_bad_descriptions_are_refused_and_the_valid_names_listed(
    changes: dict[str, object], names: list[str]
) -> None:
    description = make_description()
    for name, value in changes.items():
        setattr(description, name, value)
    with pytest.raises(ValueError) as error:
        vc.RobotModel(description)
    for name in names:
        assert name in str(error.value)


def test_inverse_kinematics_finds_reachable_poses_within_the_limits() -> None:
    model = vc.RobotModel(make_description(base_rpy="0.3 0 1"))
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(30):
        q = HOME + rng.uniform(-0.5, 0.5, 7)
        target = model.forward_kinematics(q)
        solution, converged = model.inverse_kinematics(target, HOME)
        assert np.all(solution >= model.position_lower)
        assert np.all(solution <= model.position_upper)
        if converged:
            found += 1
            np.testing.assert_allclose(model.forward_kinematics(solution), target, atol=2e-4)
    assert found >= 29


def test_inverse_kinematics_says_when_a_pose_is_out_of_reach() -> None:
    model = vc.RobotModel(make_description())
    target = model.forward_kinematics(HOME)
    target[:3, 3] = [3.0, 0.0, 0.5]
    solution, converged = model.inverse_kinematics(target, HOME)
    assert not converged
    assert np.isfinite(solution).all()
    target[0, 3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        model.inverse_kinematics(target, HOME)
