# SPDX-License-Identifier: Apache-2.0
"""What is said between a policy's server and its clients.

The server speaks first: ``{protocol, version, spec, max_message_bytes}``. Then every request is
``{id, call, ...}`` and is answered by ``{id, ...}`` or ``{id, error: {kind, message}}``:

=========  ==================================  ===================================================
call       with                                answered with
=========  ==================================  ===================================================
reset      seed                                nothing more
encode     observation                         context: a number that the connection knows
act        context, state                      chunk
=========  ==================================  ===================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from vla_data.observation import Observation, ObservationError

from ..spec import PolicySpec
from ..types import (
    ActionChunk,
    CheckpointError,
    ObservationLike,
    ObservationMismatchError,
    PolicyError,
    RobotState,
)

PROTOCOL, VERSION = "vla-policy", 1
PATH = "/v1"
# Errors that keep their kind across the wire.
KINDS: dict[str, type[PolicyError]] = {
    kind.__name__: kind for kind in (ObservationMismatchError, CheckpointError, PolicyError)
}


class SchemaMismatchError(PolicyError):
    """The server's policy is another one than was asked for."""


class MessageError(PolicyError):
    """A message lacks something or holds something else than it should."""


def hello(spec: PolicySpec, max_message_bytes: int) -> dict[str, Any]:
    """The server's first message."""
    return {
        "protocol": PROTOCOL,
        "version": VERSION,
        "spec": spec.to_dict(),
        "policy_id": spec.policy_id,
        "max_message_bytes": max_message_bytes,
    }


def read_hello(message: Mapping[str, Any]) -> PolicySpec:
    """The specification in a server's first message.

    Raises:
        SchemaMismatchError: If it is another protocol, another version or no specification.
    """
    found = (message.get("protocol"), message.get("version"))
    if found != (PROTOCOL, VERSION):
        raise SchemaMismatchError(
            f"the server speaks {found[0]!r} version {found[1]!r}, not {PROTOCOL!r} {VERSION}"
        )
    try:
        return PolicySpec.from_dict(message["spec"], str(message.get("policy_id", "")))
    except (CheckpointError, KeyError, TypeError, ValueError) as error:
        raise SchemaMismatchError(f"the server's specification cannot be read: {error}") from error


def check_schema(spec: PolicySpec, expected: Mapping[str, Any]) -> None:
    """Compares what a server serves with what its client can work with.

    Args:
        spec: The server's.
        expected: Some of ``PolicySpec``'s attributes with the only values that will do.

    Raises:
        SchemaMismatchError: Listing every difference.
    """
    names = {field.name for field in fields(PolicySpec)}
    unknown = sorted(set(expected) - names)
    if unknown:
        raise ValueError(f"no such attribute: {', '.join(unknown)}; valid: {', '.join(names)}")
    differences = [
        f"{name}: the server has {getattr(spec, name)!r}, needed is {value!r}"
        for name, value in expected.items()
        if getattr(spec, name) != value
    ]
    if differences:
        raise SchemaMismatchError("the server's policy does not fit. " + "; ".join(differences))


def from_observation(observation: ObservationLike) -> dict[str, Any]:
    """An observation as a message."""
    return {
        **from_state(RobotState.of(observation)),
        "images": dict(observation.images),
        "instruction": observation.instruction,
    }


def to_observation(message: Any) -> Observation:
    """The observation in a message.

    Raises:
        ObservationMismatchError: If a part is missing or unusable.
    """
    state = to_state(message)
    try:
        return Observation(
            stamp_ns=state.stamp_ns,
            images=dict(message["images"]),
            q=state.q,
            dq=state.dq,
            gripper_opening=state.gripper_opening,
            instruction=message["instruction"],
            pose_tool_in_base=state.pose_tool_in_base,
        )
    except (ObservationError, KeyError, TypeError, ValueError) as error:
        raise ObservationMismatchError(f"the observation cannot be used: {error!r}") from error


def from_state(state: RobotState) -> dict[str, Any]:
    """A robot's state as a message."""
    return {
        "stamp_ns": int(state.stamp_ns),
        "q": np.asarray(state.q),
        "dq": np.asarray(state.dq),
        "gripper_opening": float(state.gripper_opening),
        "pose_tool_in_base": np.asarray(state.pose_tool_in_base),
    }


def to_state(message: Any) -> RobotState:
    """The robot's state in a message.

    Raises:
        ObservationMismatchError: If a part is missing or of another kind or shape.
    """
    try:
        state = RobotState(
            stamp_ns=int(message["stamp_ns"]),
            q=np.asarray(message["q"], dtype=np.float64),
            dq=np.asarray(message["dq"], dtype=np.float64),
            gripper_opening=float(message["gripper_opening"]),
            pose_tool_in_base=np.asarray(message["pose_tool_in_base"], dtype=np.float64),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ObservationMismatchError(f"the state cannot be used: {error!r}") from error
    if state.pose_tool_in_base.shape != (4, 4) or state.q.ndim != 1:
        raise ObservationMismatchError(
            f"pose_tool_in_base is {state.pose_tool_in_base.shape} and q {state.q.shape}; "
            "valid: (4, 4) and (n,)"
        )
    return state


def from_chunk(chunk: ActionChunk) -> dict[str, Any]:
    """A chunk as a message."""
    return {field.name: getattr(chunk, field.name) for field in fields(ActionChunk)}


def to_chunk(message: Any, spec: PolicySpec) -> ActionChunk:
    """The chunk in a message.

    Raises:
        MessageError: If it is not the chunk that the specification promises, or not finite.
    """
    try:
        chunk = ActionChunk(
            stamp_ns=int(message["stamp_ns"]),
            step_dt=float(message["step_dt"]),
            poses_tool_in_base=np.array(message["poses_tool_in_base"], dtype=np.float64),
            gripper_opening=np.array(message["gripper_opening"], dtype=np.float64),
            features=np.array(message["features"], dtype=np.float32),
            inference_id=int(message["inference_id"]),
            policy_id=str(message["policy_id"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MessageError(f"the server's chunk cannot be read: {error!r}") from error
    shapes = (chunk.poses_tool_in_base.shape, chunk.gripper_opening.shape)
    if shapes != ((spec.horizon, 4, 4), (spec.horizon,)) or chunk.step_dt != spec.step_dt:
        raise MessageError(
            f"the server's chunk has poses {shapes[0]}, openings {shapes[1]} and steps of "
            f"{chunk.step_dt} s, which its specification does not say"
        )
    if not all(
        np.isfinite(part).all() for part in (chunk.poses_tool_in_base, chunk.gripper_opening)
    ):
        raise MessageError("the server's chunk is not finite")
    return chunk


def from_error(error: Exception) -> dict[str, str]:
    """An error as a message."""
    kind = next((name for name, one in KINDS.items() if isinstance(error, one)), "PolicyError")
    return {"kind": kind, "message": str(error) or type(error).__name__}


def to_error(message: Any) -> PolicyError:
    """The error in a message."""
    if not isinstance(message, dict):
        return MessageError(f"the server's error cannot be read: {message!r}")
    kind = KINDS.get(str(message.get("kind")), PolicyError)
    return kind(str(message.get("message", "no reason given")))
