# SPDX-License-Identifier: Apache-2.0
"""openpi's websocket protocol: one map of observations in, one map with ``actions`` out.

As a server this suite expects the names that ``metadata`` lists and returns actions in the policy's
own action space, which ``metadata`` tells as well. As a client it needs to be told what another
server expects and returns: see ``client.OpenpiPolicy``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_data.observation import Observation, ObservationError

from ..spec import PolicySpec
from ..types import ActionChunk, ObservationMismatchError, RobotState

IMAGE = "observation/image/"
PROMPT = "prompt"
_STATE = {
    "q": "observation/joint_position",
    "dq": "observation/joint_velocity",
    "gripper_opening": "observation/gripper_opening",
    "pose_tool_in_base": "observation/pose_tool_in_base",
}


def metadata(spec: PolicySpec) -> dict[str, Any]:
    """What a client is told when it connects."""
    return {
        "policy_id": spec.policy_id,
        "spec": spec.to_dict(),
        "observation": _names(spec),
        "actions": list(spec.action.names),
    }


def _names(spec: PolicySpec) -> list[str]:
    return [*(IMAGE + camera for camera in spec.cameras), *_STATE.values(), PROMPT]


def from_observation(observation: Observation) -> dict[str, Any]:
    """An observation under the names that ``metadata`` lists."""
    return {
        **{IMAGE + camera: image for camera, image in observation.images.items()},
        **{name: np.asarray(getattr(observation, ours)) for ours, name in _STATE.items()},
        PROMPT: observation.instruction,
    }


def to_observation(message: Mapping[str, Any], spec: PolicySpec, stamp_ns: int) -> Observation:
    """An openpi client's observation.

    Raises:
        ObservationMismatchError: Naming what is missing or unusable.
    """
    needed = _names(spec)
    missing = [name for name in needed if name not in message]
    if missing:
        raise ObservationMismatchError(
            f"the observation lacks {', '.join(missing)}; it needs {', '.join(needed)}"
        )
    try:
        return Observation(
            stamp_ns=stamp_ns,
            images={camera: np.asarray(message[IMAGE + camera]) for camera in spec.cameras},
            q=np.asarray(message[_STATE["q"]], dtype=np.float64),
            dq=np.asarray(message[_STATE["dq"]], dtype=np.float64),
            gripper_opening=float(np.asarray(message[_STATE["gripper_opening"]]).item()),
            instruction=message[PROMPT],
            pose_tool_in_base=np.asarray(
                message[_STATE["pose_tool_in_base"]], dtype=np.float64
            ).reshape(4, 4),
        )
    except (ObservationError, TypeError, ValueError) as error:
        raise ObservationMismatchError(f"the observation cannot be used: {error}") from error


def from_chunk(chunk: ActionChunk, state: RobotState, spec: PolicySpec) -> dict[str, Any]:
    """A chunk in the policy's own action space."""
    actions = spec.action.encode(
        spec.action.observed(state), chunk.commanded, chunk.gripper_opening
    )
    return {"actions": actions.astype(np.float32), "policy_id": chunk.policy_id}
