# SPDX-License-Identifier: Apache-2.0
"""Arms whose drives are told positions, as those of a UR of the CB3 series.

The controller's output is joint motion. Without a force sensor at the tool that is position
tracking, not compliant.
"""

from __future__ import annotations

from typing import Any

import vla_control
from vla_sim._core import PositionDrives
from vla_sim.arms import ArmDescription

# Of the drives' own loop, rad/s; critically damped.
FREQUENCY = 60.0
# What their velocity feed-forward leaves of their lag, s.
DRIVE_LAG = 0.002
# Assumed where the maker publishes none, rad/s^2.
ACCELERATION = 10.0


def required(arm: ArmDescription) -> bool:
    """Return whether the drives of an arm take positions only."""
    return arm.drives.command == "position"


def settings(arm: ArmDescription) -> dict[str, Any]:
    """Return what a controller of such an arm is configured with, by attribute."""
    limits = arm.limits
    n = len(arm.joint_names)
    acceleration = [ACCELERATION] * n if limits.acceleration is None else limits.acceleration
    return {
        "rate": arm.drives.control_rate,
        "output": vla_control.OutputKind.MOTION,
        "rotor_inertia": list(arm.drives.rotor_inertia),
        "max_joint_velocity": list(limits.velocity),
        "tracking__max_acceleration": list(acceleration),
        "tracking__drive_lag_s": DRIVE_LAG,
    }


def connect(
    controller: vla_control.Controller, arm: ArmDescription, period: float, *, gravity: bool
) -> PositionDrives:
    """Return the drives under a controller.

    Args:
        controller: With motion output.
        arm: Whose drives they are.
        period: Of their own loop, s; the controller's is a whole multiple of it.
        gravity: Whether their torque must carry the arm's weight.
    """
    divider = round(1.0 / (arm.drives.control_rate * period))
    return PositionDrives(controller, FREQUENCY, divider, gravity)
