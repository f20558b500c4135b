# SPDX-License-Identifier: Apache-2.0
"""The policy interface, for policies in this process and for those behind a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .continuation import Continuation
from .spec import PolicySpec
from .types import ActionChunk, ObservationLike, PolicyError, RobotState

if TYPE_CHECKING:  # a client of a server does without torch
    from .actions.frame import ActionFrame
    from .samplers import Guidance


@dataclass(frozen=True)
class Context:
    """Encoded images and instruction.

    Attributes:
        stamp_ns: Of the observation.
        instruction: That was encoded.
        inference_id: Counts the encoded observations since the last reset.
        prefix: What the policy has made of them; its own.
    """

    stamp_ns: int
    instruction: str
    inference_id: int
    prefix: Any


class ActItem(NamedTuple):
    """One of the chunks of a batch.

    Attributes:
        context: Encoded images and instruction.
        state: The robot's.
        seed: Of the noise, with the context's inference count.
        continuation: What the chunk goes on from; None for a chunk by itself.
    """

    context: Context
    state: RobotState
    seed: int
    continuation: Continuation | None = None


class Policy(ABC):
    """From observations to action chunks.

    ``encode`` is slow (vision and language), ``act`` is fast and may be called several times per
    context. One thread at a time for each of the two.

    Attributes:
        spec: What it needs and returns.
        has_flow: Whether ``act`` takes a continuation or a guidance.
    """

    spec: PolicySpec
    has_flow: bool = False

    @abstractmethod
    def reset(self, seed: int = 0) -> None:
        """Restarts the inference count; noise is a function of seed and count alone."""

    def prepare(self, observation: ObservationLike) -> None:  # noqa: B027  most have nothing to do
        """Gets ready to compute for one robot, where that helps; may take some seconds.

        Args:
            observation: Any that fits ``spec``.
        """

    @abstractmethod
    def encode(self, observation: ObservationLike) -> Context:
        """Encodes images and instruction.

        Raises:
            ObservationMismatchError: Naming the part that does not fit ``spec``.
        """

    @abstractmethod
    def act(
        self,
        context: Context,
        state: RobotState,
        guidance: Guidance | Continuation | None = None,
    ) -> ActionChunk:
        """A chunk and its features for an encoded context and the robot's state.

        Args:
            context: From ``encode``.
            state: Where the chunk begins.
            guidance: What bends the flow: a chunk to go on from, or any function of the flow.

        Raises:
            ObservationMismatchError: If the state does not fit ``spec``.
            PolicyError: If the chunk cannot be used, or there is no flow that could be guided.
        """

    def action_frame(self, state: RobotState) -> ActionFrame:
        """What normalised actions mean for a state; of policies with a flow."""
        raise PolicyError(f"{type(self).__name__} has no flow")


class BatchPolicy(Policy):
    """A policy that computes for several clients at once.

    What it computes for one depends on the others in the last bits only.
    """

    @abstractmethod
    def encode_batch(self, items: Sequence[tuple[ObservationLike, int]]) -> list[Context]:
        """Contexts of observations and their inference counts; see ``encode``."""

    @abstractmethod
    def act_batch(self, items: Sequence[ActItem]) -> list[ActionChunk]:
        """Chunks; see ``act``."""
