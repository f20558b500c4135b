# SPDX-License-Identifier: Apache-2.0
"""The flow, compiled: fused kernels, shapes and memory that never change, on a GPU CUDA graphs.

A full-size π0 launches some ten thousand small kernels per chunk, and launching them takes longer
than running them. Here the prefix is one graph and the whole denoising loop another; the loop reads
keys and values of the prefix where the graph expects them, at their full length, with padding
masked. Without a GPU the same code runs on the same memory, without the graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ..nano_pi0 import NanoPi0, Prefix
from ..samplers import Guidance, Velocity, euler
from .flow import FlowHead

# Runs before a capture: compilation, and what libraries allocate at their first call.
_WARM_UP = 3


class CompiledFlow(FlowHead):
    """Euler steps along the flow, and the prefix before it. One thread.

    It compiles at the first call, which takes from seconds to minutes. Several conditions are
    computed one after the other: each batch size would be compiled for itself.

    Args:
        network: Frozen, on its device.
        steps: Euler steps.
        backend: Of ``torch.compile``.
    """

    def __init__(self, network: NanoPi0, steps: int, backend: str = "inductor") -> None:
        super().__init__(steps)
        self._network = network
        self._layers = network.config.layers
        compiled = partial(torch.compile, dynamic=False, fullgraph=True, backend=backend)
        self._step = compiled(self._velocity)
        self._prefix = _Fixed(compiled(self._encode))
        self._loop = _Fixed(self._denoise)

    def encode(self, images: Tensor, token_ids: Tensor, token_valid: Tensor) -> Prefix:
        """As ``NanoPi0.encode``."""
        rows = []
        for row in zip(images, token_ids, token_valid, strict=True):
            rows.append(self._unpack(self._prefix([tensor[None] for tensor in row])))
        return Prefix.stack(rows)

    def sample(
        self,
        network: NanoPi0,
        prefix: Prefix,
        state: Tensor,
        noise: Tensor,
        guidance: Guidance | None,
    ) -> tuple[Tensor, Tensor]:
        """A chunk and its features; see ``Head.sample``."""
        count = len(noise)
        rows_of = [prefix] if count == 1 else [prefix.row(row) for row in range(count)]
        prefixes = [self._pack(one) for one in rows_of]
        if guidance is not None:
            # Its gradient runs through each step by itself.
            return euler(guidance(self._flow(prefixes, state)), noise, self.steps)
        rows = [
            self._loop([*one, state[row, None], noise[row, None]])
            for row, one in enumerate(prefixes)
        ]
        actions, features = (torch.cat(part) for part in zip(*rows, strict=True))
        return actions, features

    def _encode(self, images: Tensor, token_ids: Tensor, token_valid: Tensor) -> list[Tensor]:
        return self._pack(self._network.encode(images, token_ids, token_valid))

    def _denoise(self, *packed: Tensor) -> list[Tensor]:
        *prefix, state, noise = packed
        return list(euler(self._flow([prefix], state), noise, self.steps))

    def _flow(self, prefixes: Sequence[Sequence[Tensor]], state: Tensor) -> Velocity:
        state = state.to(self._network.dtype)

        def flow(actions: Tensor, t: float, /) -> tuple[Tensor, Tensor]:
            time = torch.full((1, 1), t, device=actions.device)
            rows = [
                self._step(prefix, state[row, None], actions[row, None], time)
                for row, prefix in enumerate(prefixes)
            ]
            velocity, features = (torch.cat(part) for part in zip(*rows, strict=True))
            return velocity, features

        return flow

    def _velocity(
        self, packed: Sequence[Tensor], state: Tensor, actions: Tensor, time: Tensor
    ) -> tuple[Tensor, Tensor]:
        v, features = self._network.velocity(
            self._unpack(packed), state, actions[:, None].to(self._network.dtype), time
        )
        return v[:, 0].float(), features[:, 0]

    @staticmethod
    def _pack(prefix: Prefix) -> list[Tensor]:
        """Keys and values as one tensor, so that they are copied at once."""
        return [torch.stack([*prefix.keys, *prefix.values]), prefix.valid, prefix.patches]

    def _unpack(self, packed: Sequence[Tensor]) -> Prefix:
        both, valid, patches = packed
        layers = both.unbind()
        return Prefix(layers[: self._layers], layers[self._layers :], valid, patches)


class _Fixed:
    """A function of tensors that always runs on the same memory; on a GPU as one CUDA graph.

    Args:
        function: From tensors to tensors, without a look at their values.
    """

    def __init__(self, function: Callable[..., Sequence[Tensor]]) -> None:
        self._function = function
        self._inputs: list[Tensor] = []
        self._outputs: Sequence[Tensor] = ()
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The function's results, which later calls leave as they are."""
        if not self._inputs:
            self._inputs = [one.contiguous().clone() for one in inputs]
            if inputs[0].is_cuda:
                self._capture()
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        if self._graph is None:
            self._outputs = self._function(*self._inputs)
        else:
            self._graph.replay()
        return [tensor.clone() for tensor in self._outputs]

    def _capture(self) -> None:
        with torch.cuda.device(self._inputs[0].device):  # streams are the current device's
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    self._function(*self._inputs)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the GPU meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._outputs = self._function(*self._inputs)
        self._graph = graph
