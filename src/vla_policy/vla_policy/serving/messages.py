# SPDX-License-Identifier: Apache-2.0
"""What is said between a policy's server and its clients.

The server speaks first: ``{protocol, version, spec, policy_id, has_flow, max_message_bytes}``. Then
every request is ``{id, call, ...}`` and is answered by ``{id, ...}`` or
``{id, error: {kind, message}}``:

=========  ==================================  ===================================================
call       with                                answered with
=========  ==================================  ===================================================
reset      seed                                nothing more
encode     observation                         context: a number that the connection knows
act        context, state, continuation        chunk
infer      observation, state, continuation    context and chunk, of one computation
=========  ==================================  ===================================================

``continuation`` is what real-time chunking goes on from (``Continuation``): what is left of the
chunk under way, absolute, and its weights. A server whose policy has a flow takes it; it may be
left out, and so may the state of ``infer``, which is then the observation's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from vla_data.observation import Observation, ObservationError

from ..continuation import Continuation
from ..spec import PolicySpec
from ..types import (
    ActionChunk,
    CheckpointError,
    ObservationLike,
    ObservationMismatchError,
    PolicyError,
    RobotState,
)

PROTOCOL, VERSION = "vla-policy", 3
PATH = "/vla"
# Errors that keep their kind across the wire.
KINDS: dict[str, type[PolicyError]] = {
    kind.__name__: kind for kind in (ObservationMismatchError, CheckpointError, PolicyError)
}


@dataclass(frozen=True)
class Served:
    """What a server says of itself.

    Attributes:
        spec: Of its policy.
        has_flow: Whether ``act`` takes a continuation.
        max_message_bytes: Longest message that it reads.
    """

    spec: PolicySpec
    has_flow: bool
    max_message_bytes: int


class SchemaMismatchError(PolicyError):
    """The server's policy is another one than was asked for."""


class MessageError(PolicyError):
    """A message lacks something or holds something else than it should."""


def hello(served: Served) -> dict[str, Any]:
    """The server's first message."""
    return {
        "protocol": PROTOCOL,
        "version": VERSION,
        "spec": served.spec.to_dict(),
        "policy_id": served.spec.policy_id,
        "has_flow": served.has_flow,
        "max_message_bytes": served.max_message_bytes,
    }


def read_hello(message: Mapping[str, Any]) -> Served:
    """What a server's first message says.

    Raises:
        SchemaMismatchError: If it is another protocol, another version or no specification.
    """
    found = (message.get("protocol"), message.get("version"))
    if found != (PROTOCOL, VERSION):
        raise SchemaMismatchError(
            f"the server speaks {found[0]!r} version {found[1]!r}, not {PROTOCOL!r} {VERSION}"
        )
    try:
        return Served(
            spec=PolicySpec.from_dict(message["spec"], str(message["policy_id"])),
            has_flow=bool(message["has_flow"]),
            max_message_bytes=int(message["max_message_bytes"]),
        )
    except (CheckpointError, KeyError, TypeError, ValueError) as error:
        raise SchemaMismatchError(f"the server's specification cannot be read: {error}") from error


def check_schema(served: Served, expected: Mapping[str, Any]) -> None:
    """Compares what a server serves with what its client can work with.

    Args:
        served: What the server says.
        expected: ``has_flow`` and ``PolicySpec``'s attributes, with the only values that will do;
            those that may be anything are left out.

    Raises:
        SchemaMismatchError: Listing every difference.
    """
    found = {**vars(served.spec), "has_flow": served.has_flow}
    unknown = sorted(set(expected) - set(found))
    if unknown:
        raise ValueError(f"no such attribute: {', '.join(unknown)}; valid: {', '.join(found)}")
    differences = [
        f"{name}: the server has {found[name]!r}, needed is {value!r}"
        for name, value in expected.items()
        if found[name] != value
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


def is_state_of(state: RobotState, observation: ObservationLike) -> bool:
    """Whether a state's values are an observation's very own, so that they need no second way."""
    return state.stamp_ns == observation.stamp_ns and all(
        getattr(state, name) is getattr(observation, name)
        for name in ("q", "dq", "gripper_opening", "pose_tool_in_base")
    )


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
            commanded=np.array(message["commanded"], dtype=np.float64),
            gripper_opening=np.array(message["gripper_opening"], dtype=np.float64),
            features=np.array(message["features"], dtype=np.float32),
            inference_id=int(message["inference_id"]),
            policy_id=str(message["policy_id"]),
            conditioned_steps=int(message["conditioned_steps"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MessageError(f"the server's chunk cannot be read: {error!r}") from error
    shapes = (chunk.commanded.shape, chunk.gripper_opening.shape)
    promised = ((spec.horizon, *_reference_shape(spec)), (spec.horizon,))
    if shapes != promised or chunk.step_dt != spec.step_dt:
        raise MessageError(
            f"the server's chunk has references {shapes[0]}, openings {shapes[1]} and steps of "
            f"{chunk.step_dt} s; its specification says {promised[0]}, {promised[1]} and "
            f"{spec.step_dt} s"
        )
    if not all(np.isfinite(part).all() for part in (chunk.commanded, chunk.gripper_opening)):
        raise MessageError("the server's chunk is not finite")
    return chunk


def _reference_shape(spec: PolicySpec) -> tuple[int, ...]:
    return (4, 4) if spec.action.quantity == "pose" else (len(spec.joint_names),)


def from_continuation(continuation: Continuation) -> dict[str, Any]:
    """What a chunk shall go on from as a message."""
    return dict(vars(continuation))


def to_continuation(message: Any, spec: PolicySpec) -> Continuation | None:
    """What a chunk shall go on from, in a message; None for nothing.

    Raises:
        ObservationMismatchError: If it does not fit the policy's chunks.
    """
    if message is None:
        return None
    try:
        continuation = Continuation(
            **{
                name: np.asarray(message[name], dtype=np.float64)
                for name in ("commanded", "gripper_opening", "weights")
            },
            max_weight=float(message["max_weight"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ObservationMismatchError(f"the continuation cannot be used: {error!r}") from error
    shapes = (continuation.commanded.shape[1:], continuation.weights.shape)
    if shapes != (_reference_shape(spec), (spec.horizon,)):
        raise ObservationMismatchError(
            f"the continuation has references {shapes[0]} and weights {shapes[1]}; this policy's "
            f"chunks have {_reference_shape(spec)} and {(spec.horizon,)}"
        )
    return continuation


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
