# SPDX-License-Identifier: Apache-2.0
"""A network on the CPU as two graphs that were traced once: the same kernels, without Python.

A chunk of the nano π0 is some 3,000 calls of kernels that take microseconds. Between them Python
takes a third of the time, and at each of them the interpreter's lock is let go and asked for
again, so that the other threads of a node stretch a chunk to several times its length. A graph asks
for the lock once, and gives the same bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..nano_pi0 import NanoPi0, Prefix
from ..samplers import Guidance
from ..types import PolicyError
from .protocol import Head

# Calls before a graph is as fast as it gets: the first ones are observed and optimised.
_WARM_UP = 3

Function = Callable[..., tuple[Tensor, ...]]


class TracedHead:
    """A head whose chunks, and the prefix before it, come from graphs.

    Traced are single conditions of the shapes given; all else, and what a guidance bends, is
    computed as before.

    Args:
        network: Frozen, on the CPU.
        head: What makes a chunk.
        images: (1, cameras, 3, size, size), as all that will be seen.
        token_ids: (1, text_tokens).
        token_valid: (1, text_tokens).

    Raises:
        PolicyError: If a graph gives other bits than what it was traced from.
    """

    def __init__(
        self,
        network: NanoPi0,
        head: Head,
        images: Tensor,
        token_ids: Tensor,
        token_valid: Tensor,
    ) -> None:
        self.has_flow = head.has_flow
        self._network = network
        self._head = head
        self._layers = network.config.layers
        read = [images, token_ids, token_valid]
        self._prefix = _Graph("prefix", self._encode, read)
        shape = network.config
        state = torch.zeros((1, shape.state_dim))
        noise = torch.ones((1, shape.horizon, shape.action_dim))
        self._chunk = _Graph("chunk", self._sample, [*self._prefix(read), state, noise])

    def encode(self, images: Tensor, token_ids: Tensor, token_valid: Tensor) -> Prefix:
        """As ``NanoPi0.encode``."""
        return self._unpack(self._prefix([images, token_ids, token_valid]))

    def sample(
        self,
        network: NanoPi0,
        prefix: Prefix,
        state: Tensor,
        noise: Tensor,
        guidance: Guidance | None,
    ) -> tuple[Tensor, Tensor]:
        """A chunk and its features; see ``Head.sample``."""
        if guidance is not None:
            return self._head.sample(network, prefix, state, noise, guidance)
        actions, features = self._chunk([*self._pack(prefix), state, noise])
        return actions, features

    def _encode(self, images: Tensor, token_ids: Tensor, token_valid: Tensor) -> tuple[Tensor, ...]:
        return self._pack(self._network.encode(images, token_ids, token_valid))

    def _sample(self, *packed: Tensor) -> tuple[Tensor, ...]:
        *prefix, state, noise = packed
        return self._head.sample(self._network, self._unpack(prefix), state, noise, None)

    @staticmethod
    def _pack(prefix: Prefix) -> tuple[Tensor, ...]:
        return (*prefix.keys, *prefix.values, prefix.valid, prefix.patches)

    def _unpack(self, packed: Sequence[Tensor]) -> Prefix:
        *both, valid, patches = packed
        return Prefix(tuple(both[: self._layers]), tuple(both[self._layers :]), valid, patches)


class _Graph:
    """A function of tensors, traced for the shapes of its examples.

    Args:
        name: For errors.
        function: Whose way does not depend on the values of its tensors.
        examples: Its arguments.
    """

    def __init__(self, name: str, function: Function, examples: Sequence[Tensor]) -> None:
        self._function = function
        self._shapes = [tensor.shape for tensor in examples]
        with warnings.catch_warnings():
            # Of what Python decides by shapes, which are fixed here; and that torch.compile is to
            # be used, which takes a compiler and a minute.
            warnings.simplefilter("ignore")
            trace: Any = torch.jit.trace
            self._graph = trace(function, tuple(examples), check_trace=False)
        for _ in range(_WARM_UP):
            traced = self._graph(*examples)
        for one, other in zip(traced, function(*examples), strict=True):
            if not torch.equal(one, other):
                raise PolicyError(f"the traced {name} differs from the one that it was traced from")

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The function's results."""
        fits = [tensor.shape for tensor in inputs] == self._shapes
        results: tuple[Tensor, ...] = (self._graph if fits else self._function)(*inputs)
        return results
