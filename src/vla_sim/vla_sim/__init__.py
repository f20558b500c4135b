# SPDX-License-Identifier: Apache-2.0
"""MuJoCo scenes, tasks, scripted experts and the 1 kHz loop of plant and controller. No ROS.

Start with :class:`vla_sim.simulation.Simulation` or :func:`vla_sim.env.make_env`.
"""

from __future__ import annotations

import os

# MuJoCo reads this when it is imported: draw off screen, with or without a display.
os.environ.setdefault("MUJOCO_GL", "egl")
