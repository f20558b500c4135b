# SPDX-License-Identifier: Apache-2.0
"""What a server computes for its clients: each has its own seed, count and encoded contexts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..continuation import Continuation
from ..interface import ActItem, BatchPolicy, Context
from ..types import ActionChunk, ObservationLike, PolicyError, RobotState

# A client acts on its newest context; a few older ones are kept for those that overlap.
_KEPT_CONTEXTS = 4


@dataclass
class Session:
    """What the server remembers of one client."""

    seed: int = 0
    count: int = 0
    contexts: OrderedDict[int, Context] = field(default_factory=OrderedDict)

    def reset(self, seed: int) -> None:
        """Begins anew."""
        self.seed, self.count = seed, 0
        self.contexts.clear()

    def keep(self, context: Context) -> int:
        """Remembers a context and returns its number."""
        self.contexts[context.inference_id] = context
        while len(self.contexts) > _KEPT_CONTEXTS:
            self.contexts.popitem(last=False)
        return context.inference_id

    def context(self, number: Any) -> Context:
        """A context by its number.

        Raises:
            PolicyError: If it is not known (any more).
        """
        if number not in self.contexts:
            raise PolicyError(f"the context {number!r} is not known; encode an observation first")
        return self.contexts[number]


@dataclass(frozen=True)
class InferItem:
    """An observation, and the chunk that is wanted for it; see ``ActItem``."""

    session: Session
    observation: ObservationLike
    state: RobotState
    continuation: Continuation | None = None


class Service:
    """Computes for several clients at once with one policy.

    Args:
        policy: That is served; used by one thread at a time.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self.policy = policy

    def encode(self, requests: Sequence[tuple[Session, ObservationLike]]) -> Sequence[Any]:
        """Contexts, or errors, of observations; in order."""
        numbered = []
        for session, observation in requests:
            numbered.append((observation, session.count))
            session.count += 1
        return _batched(self.policy.encode_batch, numbered)

    def infer(self, requests: Sequence[InferItem]) -> Sequence[Any]:
        """Contexts with chunks, or errors, of observations; in order."""
        contexts = self.encode([(one.session, one.observation) for one in requests])
        chunks = iter(
            self.act(
                [
                    ActItem(context, one.state, one.session.seed, one.continuation)
                    for one, context in zip(requests, contexts, strict=True)
                    if isinstance(context, Context)
                ]
            )
        )
        return [
            _both(context, next(chunks)) if isinstance(context, Context) else context
            for context in contexts
        ]

    def act(self, requests: Sequence[ActItem]) -> Sequence[Any]:
        """Chunks, or errors; in order."""
        return _batched(self.policy.act_batch, requests)


def _both(context: Context, chunk: ActionChunk | Exception) -> Any:
    return chunk if isinstance(chunk, Exception) else (context, chunk)


def _batched(
    compute: Callable[[Sequence[Any]], Sequence[Any]], items: Sequence[Any]
) -> Sequence[Any]:
    """Results of a batch; where one item spoils it, of each item by itself."""
    if not items:
        return []
    try:
        return compute(items)
    except Exception as error:  # whoever sent the bad item is told, the others are served
        if len(items) == 1:
            return [error]
    results: list[ActionChunk | Context | Exception] = []
    for item in items:
        try:
            results.extend(compute([item]))
        except Exception as error:
            results.append(error)
    return results
