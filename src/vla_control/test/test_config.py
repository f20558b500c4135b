# SPDX-License-Identifier: Apache-2.0
"""Every setting has a range, and an error names it."""

from __future__ import annotations

import numpy as np
import pytest
from arm import BASE, JOINTS, TOOL, make_config, make_description, make_urdf

import vla_control as vc

DESCRIPTION = make_description()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate", 0.0),
        ("translational_stiffness", [600.0, -1.0, 600.0]),
        ("rotational_stiffness", [30.0, 30.0, float("nan")]),
        ("damping_ratio", -1.0),
        ("max_position_error", 0.0),
        ("max_rotation_error", 4.0),
        ("min_task_frequency", 0.0),
        ("nullspace_stiffness", -1.0),
        ("nullspace_damping_ratio", -1.0),
        ("nullspace_speed", -0.1),
        ("nullspace_posture", [0.0] * 6),
        ("nullspace_posture", [0.0] * 6 + [3.5]),
        ("torque_limit", [87.0] * 8),
        ("torque_limit", [0.0] * 7),
        ("torque_rate_limit", [float("inf")] * 7),
        ("braking_torque_rate_limit", [10.0] * 7),
        ("max_joint_velocity", [-1.0] * 7),
        ("joint_velocity_damping", -1.0),
        ("max_linear_velocity", 0.0),
        ("max_linear_acceleration", float("nan")),
        ("max_angular_velocity", -1.0),
        ("max_angular_acceleration", 0.0),
        ("heartbeat_timeout_s", -0.5),
        ("heartbeat_fault_s", -1.0),
        ("heartbeat_fault_s", 1.0),
        ("joint_state_timeout_s", -1.0),
        ("clock_jump_periods", 0),
        ("hold_stiffness", 0.0),
        ("hold_damping_ratio", 0.0),
        ("workspace_min", [3.0, 0.0, 0.0]),
        ("workspace_max", [float("nan"), 1.0, 1.0]),
        ("friction__coulomb", [-0.1] * 7),
        ("friction__viscous", [0.5] * 6),
        ("friction__smoothing_speed", 0.0),
        ("rotor_inertia", [float("nan")] * 7),
        ("payload_ramp_s", 0.0),
        ("gain_ramp_s", 0.0),
        ("stiffness_matrix", [0.0] * 36 + [1.0]),
        ("stiffness_matrix", list(np.diag([6e2, 6e2, 6e2, 30.0, 30.0, 0.0]).ravel())),
        ("stiffness_matrix", list((100.0 * (np.eye(6) + np.eye(6, k=1))).ravel())),
        ("translational_frequency", 0.0),
        ("rotational_frequency", 1e3),
        ("max_static_residual", [0.0] * 7),
        ("integral__gain", -1.0),
        ("integral__leak", -1.0),
        ("integral__max_force", -1.0),
        ("integral__max_torque", float("inf")),
        ("integral__dead_position", -1.0),
        ("integral__dead_rotation", -1.0),
        ("sensing__observer_bandwidth", 0.0),
        ("sensing__contact_force", 0.0),
        ("sensing__contact_torque", 0.0),
        ("sensing__contact_release", 1.0),
        ("sensing__contact_release_s", -1.0),
        ("sensing__lost_fraction", 0.0),
        ("sensing__lost_s", -1.0),
        ("sensing__lost_least_mass", 0.0),
        ("sensing__tare_s", 0.0),
        ("force__gain", -1.0),
        ("force__max_force", -1.0),
        ("force__max_torque", float("nan")),
        ("force__max_integral_force", -1.0),
        ("force__max_integral_torque", -1.0),
        ("force__fade_s", 0.0),
        ("wrench_limits__force", 0.0),
        ("wrench_limits__torque", float("nan")),
        ("barrier__joint_braking", -1.0),
        ("barrier__joint_margin", -0.1),
        ("barrier__joint_fade", 0.0),
        ("barrier__workspace_braking", float("inf")),
        ("barrier__workspace_fade", 0.0),
        ("energy_tank__capacity", -1.0),
        ("energy_tank__refill_power", -1.0),
        ("chunk__max_age_s", 0.0),
        ("chunk__max_future_s", -1.0),
        ("chunk__max_steps", 65),
        ("chunk__max_steps", 0),
        ("chunk__min_step_dt", 0.0),
        ("chunk__max_step_dt", 0.0),
        ("chunk__blend_time", 0.0),
        ("chunk__max_blend_time", 0.01),
        ("chunk__velocity_factor", 0.5),
        ("chunk__acceleration_factor", 0.5),
        ("chunk__timeout_s", -1.0),
        ("gripper__max_opening", -0.1),
        ("gripper__max_force", float("nan")),
        ("gripper__default_force", 1e6),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: object) -> None:
    # heartbeat_fault_s is out of range here because the heartbeat is not watched.
    with pytest.raises(ValueError) as error:
        vc.Controller(DESCRIPTION, make_config(**{name: value}))
    message = str(error.value)
    assert name.replace("__", ".") in message or "heartbeat_timeout_s" in message
    assert "[" in message or "needs 7" in message or "needs 36" in message


def test_gravity_must_be_decided() -> None:
    config = make_config()
    config.command_includes_gravity = None
    with pytest.raises(ValueError, match="command_includes_gravity"):
        vc.Controller(DESCRIPTION, config)


def test_margins_must_leave_a_joint_room() -> None:
    urdf = make_urdf().replace('lower="-2.9" upper="2.9"', 'lower="-0.05" upper="0.05"', 1)
    description = vc.RobotDescription(urdf, JOINTS, BASE, TOOL)
    vc.Controller(description, make_config())
    with pytest.raises(ValueError, match="joint1"):
        vc.Controller(description, make_config(barrier__joint_braking=10.0))


def test_defaults_come_from_the_urdf() -> None:
    config = vc.Controller(DESCRIPTION, make_config()).config
    np.testing.assert_array_equal(config.torque_limit, [87, 87, 87, 87, 12, 12, 12])
    np.testing.assert_array_equal(config.max_joint_velocity, [2.5] * 7)
    np.testing.assert_array_equal(config.torque_rate_limit, [1000.0] * 7)
    np.testing.assert_array_equal(config.braking_torque_rate_limit, [10000.0] * 7)


def test_a_urdf_without_effort_limits_needs_torque_limits() -> None:
    urdf = make_urdf().replace('effort="87.0"', 'effort="0"')
    description = vc.RobotDescription(urdf, JOINTS, BASE, TOOL)
    with pytest.raises(ValueError, match="torque_limit"):
        vc.Controller(description, make_config())
    controller = vc.Controller(description, make_config(torque_limit=[40.0] * 7))
    assert controller.config.torque_limit == [40.0] * 7
