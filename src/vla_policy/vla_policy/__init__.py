# SPDX-License-Identifier: Apache-2.0
"""Policies that turn images, joint state and an instruction into action chunks.

Training, evaluation, serving and the hand-over to the controller are imported by themselves
(``training``, ``evaluation``, ``serving``, ``control``): importing this package loads no simulator,
and torch only with the first name that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .actions.contracts import ActionContract, load_action_contract
from .actions.spec import ActionSpec
from .interface import Context, Policy
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

if TYPE_CHECKING:
    from .checkpoint import default_checkpoint, load_policy, read_manifest
    from .policy import NanoPi0Policy
    from .samplers import Guidance

_NEED_TORCH = {
    "Guidance": ".samplers",
    "NanoPi0Policy": ".policy",
    "default_checkpoint": ".checkpoint",
    "load_policy": ".checkpoint",
    "read_manifest": ".checkpoint",
}

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


def __getattr__(name: str) -> Any:
    if name not in _NEED_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_NEED_TORCH[name], __name__), name)
