# SPDX-License-Identifier: Apache-2.0
"""An arm whose drives are told positions, under the exercises of the benchmark.

With a force sensor at the tool it is compliant, without one it is not.
"""

from __future__ import annotations

from typing import Any

from vla_sim import position_drives
from vla_sim.control_bench.hardware import Rig
from vla_sim.control_bench.runs import Gains, Ours


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
        settings: dict[str, Any] = {
            **position_drives.settings(arm),
            "rotor_inertia": rig.hardware.armature.tolist(),
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
                    # A rigid plate, and an impact that the arm's own inertia makes, under which
                    # the drives give way, too.
                    "admittance__contact_stiffness": 20000.0,
                    "admittance__mass": 12.0,
                    "admittance__max_force": 400.0,
                    "tracking__max_deviation": [0.03] * len(arm.joint_names),
                }
            )
        config = rig.robot.controller_config(**{**settings, **changes})
        super().__init__(rig, config)
        self.law = position_drives.connect(
            self.controller, arm, rig.plant_period, gravity=not rig.hardware.gravity_compensation
        )
