# SPDX-License-Identifier: Apache-2.0
"""Laws of damping design, nullspace and torque limits, each piece on its own."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from arm import HOME, make_description, rotation
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_control as vc

MODEL = vc.RobotModel(make_description())
STIFFNESS = np.diag([600.0, 500.0, 400.0, 30.0, 25.0, 20.0])


def at(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return MODEL.jacobian(q), MODEL.mass_matrix(q)


def full_stiffness() -> np.ndarray:
    """A coupled 6x6 stiffness: the diagonal one seen from turned and shifted axes."""
    turn = np.kron(np.eye(2), rotation([0.4, -0.3, 0.8]))
    turn[:3, 3:] = 0.05 * np.arange(9).reshape(3, 3)
    return turn @ STIFFNESS @ turn.T


@pytest.mark.parametrize("stiffness", [STIFFNESS, full_stiffness()], ids=["diagonal", "full"])
@pytest.mark.parametrize("ratio", [0.3, 1.0])
def test_damping_solves_the_generalised_eigenproblem(stiffness: np.ndarray, ratio: float) -> None:
    jacobian, mass = at(HOME)
    inertia, damping, left = vc.operational_space(
        jacobian, mass, stiffness, ratio, min_frequency=0.1
    )
    np.testing.assert_array_equal(left, stiffness)
    expected = np.linalg.inv(jacobian @ np.linalg.inv(mass) @ jacobian.T)
    np.testing.assert_allclose(inertia, expected, rtol=1e-8, atol=1e-8)
    # K u = k Lambda u with U^T Lambda U = I; then Q = U^-1 and D = 2 Q^T diag(zeta sqrt(k)) Q.
    eigenvalues, vectors = scipy.linalg.eigh(stiffness, inertia)
    Q = np.linalg.inv(vectors)
    np.testing.assert_allclose(Q.T @ Q, inertia, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        damping, 2 * ratio * Q.T @ np.diag(np.sqrt(eigenvalues)) @ Q, rtol=1e-6, atol=1e-6
    )

    def ratios(damping: np.ndarray) -> np.ndarray:
        """Of the modes of Lambda x'' + D x' + K x = 0."""
        system = np.block(
            [
                [np.zeros((6, 6)), np.eye(6)],
                [-np.linalg.solve(inertia, stiffness), -np.linalg.solve(inertia, damping)],
            ]
        )
        poles = np.linalg.eigvals(system)
        return -poles.real / np.abs(poles)

    # A double pole is found to the square root of the machine's precision only.
    np.testing.assert_allclose(ratios(damping), ratio, atol=2e-3)
    # The control: a damping for an arm of unit mass, whatever the arm is.
    of_unit_mass = 2 * ratio * np.real(scipy.linalg.sqrtm(stiffness))
    assert np.abs(ratios(of_unit_mass) - ratio).max() > 0.1


def test_inertia_stays_bounded_at_a_singularity_and_is_untouched_away_from_it() -> None:
    straight = np.zeros(7)
    jacobian, mass = at(straight)
    assert np.linalg.svd(jacobian)[1][-1] < 1e-6  # singular indeed
    inertia, damping, _ = vc.operational_space(jacobian, mass, STIFFNESS, 1.0, min_frequency=3.0)
    assert np.isfinite(inertia).all()
    assert np.linalg.eigvalsh(inertia).min() > 0.0
    # Lambda <= K / omega^2 in the sense of positive matrices.
    assert scipy.linalg.eigvalsh(inertia, STIFFNESS).max() <= 1.0 / 3.0**2 * (1 + 1e-9)
    assert np.linalg.eigvalsh(damping).min() > 0.0
    exact = vc.operational_space(*at(HOME), STIFFNESS, 1.0, min_frequency=1e-3)[0]
    bounded = vc.operational_space(*at(HOME), STIFFNESS, 1.0, min_frequency=3.0)[0]
    np.testing.assert_allclose(bounded, exact, rtol=1e-9)


def test_inertia_changes_continuously_into_a_singularity() -> None:
    previous = None
    for fraction in np.linspace(1.0, 0.0, 2001):
        inertia, *_ = vc.operational_space(*at(fraction * HOME), STIFFNESS)
        if previous is not None:
            assert np.abs(inertia - previous).max() < 0.05 * np.abs(previous).max()
        previous = inertia


def test_the_nullspace_does_not_accelerate_the_tool() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        jacobian, mass = at(HOME + rng.uniform(-0.5, 0.5, 7))
        tau = rng.uniform(-10, 10, 7)
        projected = vc.project_to_nullspace(tau, jacobian, mass)
        acceleration = jacobian @ np.linalg.solve(mass, projected)
        assert np.abs(acceleration).max() < 1e-8
        assert np.linalg.norm(projected) > 1e-3  # something is left: the arm is redundant
        # Positive control: unprojected, the same torque does accelerate the tool.
        assert np.abs(jacobian @ np.linalg.solve(mass, tau)).max() > 1e-2
        # The projector is idempotent.
        np.testing.assert_allclose(
            vc.project_to_nullspace(projected, jacobian, mass), projected, atol=1e-9
        )


UNIT = np.eye(1)  # kg m^2


def make_limiter(**changes: float) -> vc.TorqueLimiter:
    values = {"torque": 50.0, "rate": 1000.0, "braking_rate": 10000.0, "velocity": 2.0} | changes
    damping = values.pop("velocity_damping", 0.0)
    return vc.TorqueLimiter(
        **{name: np.array([value]) for name, value in values.items()}, velocity_damping=damping
    )


def test_torque_and_rate_limits_hold_and_say_when_they_act() -> None:
    limiter = make_limiter()
    tau, torque_active, rate_active = limiter.apply([0.5], [0.0], UNIT, 1e-3)
    assert (tau[0], torque_active, rate_active) == (0.5, False, False)
    tau, torque_active, rate_active = limiter.apply([10.0], [0.0], UNIT, 1e-3)
    assert tau[0] == pytest.approx(1.5)
    assert (torque_active, rate_active) == (False, True)
    limiter.reset([50.0])
    tau, torque_active, rate_active = limiter.apply([70.0], [0.0], UNIT, 1e-3)
    assert (tau[0], torque_active, rate_active) == (50.0, True, False)


def test_braking_is_limited_by_the_hardware_alone() -> None:
    # The joint moves forward; torque falls, which opposes the motion.
    limiter = make_limiter()
    tau, _, rate_active = limiter.apply([-8.0], [1.0], UNIT, 1e-3)
    assert tau[0] == pytest.approx(-8.0)
    assert not rate_active
    # Positive controls: the same change with the motion, and at rest, is limited.
    for dq in (-1.0, 0.0):
        limiter = make_limiter()
        tau, _, rate_active = limiter.apply([-8.0], [dq], UNIT, 1e-3)
        assert tau[0] == pytest.approx(-1.0)
        assert rate_active
    # And beyond the hardware's own rate braking is limited, too.
    limiter = make_limiter()
    tau, _, rate_active = limiter.apply([-30.0], [1.0], UNIT, 1e-3)
    assert tau[0] == pytest.approx(-10.0)
    assert rate_active


def test_the_rate_limit_is_per_second() -> None:
    for rate in (250, 500, 1000):
        limiter = make_limiter()
        for _ in range(rate // 50):
            tau, _, _ = limiter.apply([100.0], [0.0], UNIT, 1 / rate)
        assert tau[0] == pytest.approx(20.0)  # after 20 ms at 1000 Nm/s


def test_joint_velocity_is_damped_above_its_limit_only() -> None:
    limiter = make_limiter(rate=1e5, braking_rate=1e6, velocity_damping=20.0)
    assert limiter.apply([5.0], [1.9], UNIT, 1e-3)[0][0] == pytest.approx(5.0)
    assert limiter.apply([5.0], [2.1], UNIT, 1e-3)[0][0] == pytest.approx(3.0)
    assert limiter.apply([-5.0], [-2.1], UNIT, 1e-3)[0][0] == pytest.approx(-3.0)


@pytest.mark.parametrize("period", [1e-3, 5e-3])
def test_a_light_joint_that_is_too_fast_is_slowed_down_without_swinging(period: float) -> None:
    inertia = 2e-3
    limiter = make_limiter(rate=1e6, braking_rate=1e6, velocity_damping=20.0)
    speeds = [6.0]
    tau = [0.0]
    for _ in range(200):
        # The torque of a cycle acts in the next one.
        speeds.append(speeds[-1] + tau[0] / inertia * period)
        tau = limiter.apply([0.0], [speeds[-1]], inertia * UNIT, period)[0]
    assert np.all(np.diff(speeds) <= 1e-9)
    assert 1.9 < speeds[-1] < 2.1
    # Positive control: the damping as configured would swing.
    assert 20.0 * period / inertia > 2.0


@settings(max_examples=100, deadline=None)
@given(
    wanted=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
    dq=st.floats(-3.0, 3.0),
)
def test_no_sequence_breaks_the_limits(wanted: list[float], dq: float) -> None:
    limiter = make_limiter(velocity_damping=20.0)
    previous = 0.0
    for value in wanted:
        tau = limiter.apply([value], [dq], UNIT, 1e-3)[0][0]
        assert abs(tau) <= 50.0
        assert abs(tau - previous) <= 10.0 + 1e-9
        if (tau - previous) * dq >= 0.0:
            assert abs(tau - previous) <= 1.0 + 1e-9
        previous = tau


@pytest.mark.parametrize("angle", [0.0, 1e-10, 1e-4, 0.05, 0.0999, 0.1001, 1.0, 3.0, np.pi - 1e-7])
def test_exponential_and_logarithm_are_inverse(angle: float) -> None:
    for axis in np.eye(3):
        phi = angle * rotation([0.3, 0.2, 0.5]) @ axis
        np.testing.assert_allclose(vc.so3_exp(phi), rotation(phi), atol=1e-14)
        np.testing.assert_allclose(vc.so3_log(vc.so3_exp(phi)), phi, atol=1e-9)
