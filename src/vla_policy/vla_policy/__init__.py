# SPDX-License-Identifier: Apache-2.0
"""Policies that turn images, joint state and an instruction into action chunks.

Training, evaluation and the hand-over to the controller are modules of their own
(``recipe``, ``evaluation``, ``causality``, ``control``): importing this package loads no simulator.
"""

from .action_contracts import ActionContract, load_action_contract
from .action_spec import ActionSpec
from .checkpoint import default_checkpoint, load_policy, read_manifest
from .policy import Context, NanoPi0Policy, Policy
from .samplers import Guidance
from .spec import PolicySpec
from .types import (
    ActionChunk,
    CheckpointError,
    ObservationLike,
    ObservationMismatchError,
    PolicyError,
    RobotState,
    SeedOverlapError,
)

__all__ = [
    "ActionChunk",
    "ActionContract",
    "ActionSpec",
    "CheckpointError",
    "Context",
    "Guidance",
    "NanoPi0Policy",
    "ObservationLike",
    "ObservationMismatchError",
    "Policy",
    "PolicyError",
    "PolicySpec",
    "RobotState",
    "SeedOverlapError",
    "default_checkpoint",
    "load_action_contract",
    "load_policy",
    "read_manifest",
]
