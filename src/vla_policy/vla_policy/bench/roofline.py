# SPDX-License-Identifier: Apache-2.0
"""The least time that a chunk of a π0 can take on a machine.

Either its arithmetic or the reading of its weights decides: of the prefix once, of the action
expert once per step of the flow (Williams et al., 2009, "Roofline").
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..nano_pi0 import NanoPi0

_ROUNDS = 5


@dataclass(frozen=True)
class Roofline:
    """What a machine can do, as measured.

    Attributes:
        bytes_per_s: Read from memory.
        flops_per_s: Floating-point operations of a large matrix product.
    """

    bytes_per_s: float
    flops_per_s: float

    def bound(self, network: NanoPi0) -> float:
        """The least time of a chunk, s."""
        shape, model = network.config, network.pi0.model
        vision = nn.ModuleList([model.vlm.vision_tower, model.vlm.multi_modal_projector])
        tokens = shape.image_tokens + shape.text_tokens
        prefix = self._least(vision, shape.image_tokens) + self._least(
            model.vlm.language_model.layers, tokens
        )
        return prefix + shape.flow_steps * self._least(model.dit.layers, shape.horizon + 1)

    def _least(self, module: nn.Module, tokens: int) -> float:
        """Of one pass of some tokens; attention, which is little, is left out."""
        weights = list(module.parameters())
        size = sum(weight.numel() * weight.element_size() for weight in weights)
        flops = 2.0 * tokens * sum(weight.numel() for weight in weights if weight.ndim > 1)
        return max(size / self.bytes_per_s, flops / self.flops_per_s)


def measure_machine(device: str) -> Roofline:
    """Measures a device: the best of a few large sums and matrix products."""
    on_gpu = torch.device(device).type == "cuda"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    data = torch.ones(2**30 if on_gpu else 2**24, dtype=dtype, device=device)
    side = 8192 if on_gpu else 512
    matrix = torch.ones((side, side), dtype=dtype, device=device)
    reading = _best(lambda: data.sum(), on_gpu)
    product = _best(lambda: matrix @ matrix, on_gpu)
    return Roofline(
        bytes_per_s=data.numel() * data.element_size() / reading,
        flops_per_s=2.0 * side**3 / product,
    )


def _best(work: Callable[[], Tensor], on_gpu: bool) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best
