# SPDX-License-Identifier: Apache-2.0
"""What a robot must not touch: itself, and what stands around it."""

from __future__ import annotations

from collections.abc import Sequence

import vla_control
from vla_sim import arms, scene
from vla_sim.robots import RobotSpec

# Distances are computed so often, s of simulated time.
PERIOD = 0.01
# Braking towards another body that a simulated robot counts on, m/s^2.
BRAKING = 4.0


def table() -> vla_control.Obstacle:
    """Return the top of the table that the tasks' scene stands on."""
    return vla_control.Obstacle("table", scene.TABLE_CENTER, scene.TABLE_SIZE)


def make_monitor(
    robot: RobotSpec,
    obstacles: Sequence[vla_control.Obstacle] = (),
    *,
    margin: float = 0.005,
    horizon: float = 0.2,
) -> vla_control.CollisionMonitor:
    """Return a monitor of a robot among obstacles, which its fingers alone may touch.

    Args:
        robot: The robot; its fingers stand half open.
        obstacles: In its base frame.
        margin: Distance that nothing may be nearer than at home, m.
        horizon: Pairs farther apart than this are left out, m.

    Raises:
        ValueError: Two bodies that are not named in ``collision.may_touch`` are nearer at home.
    """
    fingers = [(finger, o.name) for finger in robot.finger_bodies for o in obstacles]
    return vla_control.CollisionMonitor(
        robot.description(),
        robot.home_q,
        obstacles=list(obstacles),
        ignored_pairs=[*robot.arm.may_touch, *fingers],
        package_folders=arms.package_folders(),
        margin=margin,
        horizon=horizon,
    )
