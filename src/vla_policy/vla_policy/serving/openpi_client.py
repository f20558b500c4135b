# SPDX-License-Identifier: Apache-2.0
"""A policy behind an openpi server, used as one in this process. Needs neither torch nor ROS."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..continuation import Continuation
from ..interface import Context, Policy
from ..types import ActionChunk, Array, ObservationLike, PolicyError, RobotState
from . import messages, wire
from .client import ClientConfig, Connection, ConnectionLostError
from .openpi_contract import OpenpiContract

if TYPE_CHECKING:
    from ..samplers import Guidance


class OpenpiPolicy(Policy):
    """A policy behind openpi's websocket protocol.

    Connects at once; after the connection was lost, with the next observation. The server has
    neither seeds nor a flow that could be guided.

    Args:
        contract: What the server wants and returns.
        config: How it is reached; its ``url`` is the contract's ``server``.

    Raises:
        ServerUnreachableError: If there is no server.
        SchemaMismatchError: If it says that it wants or returns something else, listing every
            difference. openpi's own servers say nothing: then the first answer tells.
    """

    def __init__(self, contract: OpenpiContract, config: ClientConfig) -> None:
        self._contract = contract
        self._connection = Connection(config, "", scheme="Api-Key")
        self._count = 0
        self.spec = contract.spec
        self._connect()

    def close(self) -> None:
        """Disconnects."""
        self._connection.close()

    def reset(self, seed: int = 0) -> None:
        """Restarts the inference count; the server's noise is its own."""
        self._count = 0

    def encode(self, observation: ObservationLike) -> Context:
        """Prepares what ``act`` sends, which is one request; see ``Policy.encode``."""
        context = Context(
            stamp_ns=int(observation.stamp_ns),
            instruction=observation.instruction,
            inference_id=self._count,
            prefix=self._contract.seen(observation),
        )
        self._count += 1
        return context

    def act(
        self,
        context: Context,
        state: RobotState,
        guidance: Guidance | Continuation | None = None,
    ) -> ActionChunk:
        """A chunk for an observation and a state; see ``Policy.act``."""
        if guidance is not None:
            raise PolicyError("openpi's protocol takes no guidance")
        answer = self._exchange({**context.prefix, **self._contract.felt(state)})
        spec = self.spec
        try:
            commanded, openings = spec.action.decode(
                spec.action.observed(state), self._actions(answer)
            )
        except ValueError as error:
            raise messages.MessageError(f"the server's chunk cannot be used: {error}") from error
        return ActionChunk(
            stamp_ns=context.stamp_ns,
            step_dt=spec.step_dt,
            commanded=commanded,
            gripper_opening=np.maximum(openings, 0.0),
            features=np.zeros(spec.feature_shape, dtype=np.float32),
            inference_id=context.inference_id,
            policy_id=spec.policy_id,
        )

    def _actions(self, answer: Mapping[str, Any]) -> Array:
        needed = (self.spec.horizon, self.spec.action.dim)
        actions = answer.get("actions")
        if not isinstance(actions, np.ndarray):
            raise messages.SchemaMismatchError(
                "the server's answer has no array 'actions'; it has "
                f"{', '.join(answer) or 'nothing'}"
            )
        if actions.shape != needed:
            raise messages.SchemaMismatchError(
                f"the server's actions are {actions.shape}; the contract says {needed}: "
                f"{needed[0]} steps of {', '.join(self.spec.action.names)}"
            )
        return np.asarray(actions, dtype=np.float64)

    def _connect(self) -> None:
        first = self._connection.open()
        if first is None:
            return
        try:
            _check_metadata(first, self._contract)
        except PolicyError as error:
            self._connection.refuse(str(error))
            raise
        told = first.get("policy_id")
        # A server that does not say which policy it serves: then by what it does say.
        said = repr((self._contract.identity, sorted(first.items())))
        digest = hashlib.sha256(said.encode()).hexdigest()[:16]
        self.spec = replace(
            self._contract.spec, policy_id=told if isinstance(told, str) and told else digest
        )

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        data = wire.pack(request)
        fresh = not self._connection.is_open
        self._connect()
        try:
            answer = self._connection.exchange(data)
        except ConnectionLostError:
            # openpi's servers leave a client that was idle, whose answers to pings they miss.
            if fresh:
                raise
            self._connect()
            answer = self._connection.exchange(data)
        if isinstance(answer, str):
            # That a text means an error, and that the server then leaves, is the protocol's.
            self._connection.close()
            lines = answer.strip().splitlines() or ["no reason given"]
            raise PolicyError(f"the server has failed: {lines[-1][:500]}")
        try:
            return wire.unpack(answer)
        except wire.WireError as error:
            self._connection.close()
            raise messages.MessageError(f"the server's answer cannot be read: {error}") from error


def _check_metadata(metadata: Mapping[str, Any], contract: OpenpiContract) -> None:
    """Compares what a server says of itself with the contract, as far as it says anything."""
    differences = []
    wanted, action_names = metadata.get("observation"), metadata.get("actions")
    if isinstance(wanted, list):
        lacking = [name for name in wanted if name not in contract.names]
        unknown = [name for name in contract.names if name not in wanted]
        if lacking:
            differences.append(f"it wants {', '.join(map(str, lacking))}")
        if unknown:
            differences.append(f"it does not know {', '.join(unknown)}")
    names = list(contract.spec.action.names)
    if isinstance(action_names, list) and action_names != names:
        differences.append(
            f"its actions are {', '.join(map(str, action_names))}, not {', '.join(names)}"
        )
    if differences:
        raise messages.SchemaMismatchError(
            "the server's policy is not the contract's: " + "; ".join(differences)
        )
