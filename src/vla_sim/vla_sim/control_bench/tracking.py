# SPDX-License-Identifier: Apache-2.0
"""An arm whose drives are told positions, as those of a UR of the CB3 series.

With a force sensor at the tool it is compliant, without one it is not.
"""

from __future__ import annotations

from typing import Any

import vla_control
from vla_sim._core import PositionDrives
from vla_sim.control_bench.hardware import Rig
from vla_sim.control_bench.runs import Gains, Ours

# Of the drives' own loop, rad/s; critically damped.
FREQUENCY = 60.0
# Their velocity feed-forward leaves little of their lag, s.
DRIVE_LAG = 0.005
# Assumed where the maker publishes none, rad/s^2.
ACCELERATION = 10.0


class Tracking(Ours):
    """The controller with motion output, at the rate that the arm's description tells.

    Args:
        rig: The arm; with a force sensor the controller is compliant, otherwise it is not.
        gains: Stiffness of a compliant one.
        **changes: Attributes of the controller's configuration.
    """

    def __init__(self, rig: Rig, gains: Gains | None = None, **changes: Any) -> None:
        arm = rig.robot.arm
        gains = gains or Gains()
        n = len(rig.robot.joint_names)
        divider = round(1.0 / (arm.drives.control_rate * rig.plant_period))
        acceleration = arm.limits.acceleration
        settings: dict[str, Any] = {
            "rate": arm.drives.control_rate,
            "output": vla_control.OutputKind.MOTION,
            "max_joint_velocity": arm.limits.velocity.tolist(),
            "tracking__max_acceleration": (
                [ACCELERATION] * n if acceleration is None else acceleration.tolist()
            ),
            "tracking__drive_lag_s": DRIVE_LAG,
            "translational_stiffness": [gains.translational] * 3,
            "rotational_stiffness": [gains.rotational] * 3,
            "chunk__max_slowdown": 1.0,
        }
        if rig.hardware.force_sensor:
            settings.update(
                {
                    "admittance__sensor_frame": rig.robot.tool_frame,
                    # The simulated sensor has no noise: at rest its values do not change.
                    "admittance__stale_s": 0.0,
                }
            )
        config = rig.robot.controller_config(**{**settings, **changes})
        super().__init__(rig, config)
        self.law = PositionDrives(
            self.controller, FREQUENCY, divider, not rig.hardware.gravity_compensation
        )
