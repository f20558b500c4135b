# SPDX-License-Identifier: Apache-2.0
"""Samplers of flow policies, each written once on ``velocity(actions, t)``."""

from .euler import euler
from .guidance import Objective, guidance_weight, guided
from .real_time_chunking import continue_chunks, real_time_chunking
from .rewards import KeepOutSphere, Reward, TargetRegion, reward_objective
from .velocity import Guidance, Velocity

__all__ = [
    "Guidance",
    "KeepOutSphere",
    "Objective",
    "Reward",
    "TargetRegion",
    "Velocity",
    "continue_chunks",
    "euler",
    "guidance_weight",
    "guided",
    "real_time_chunking",
    "reward_objective",
]
