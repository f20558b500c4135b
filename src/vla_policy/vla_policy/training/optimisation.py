# SPDX-License-Identifier: Apache-2.0
"""Optimiser with fp32 master weights, average of weights, and learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# How many optimisers share the hidden matrices.
_MUON_PARTS = 8


def schedule_factor(progress: float, warmup: float, decay: float) -> float:
    """Warm-up, stable, decay: factor on the learning rate.

    Args:
        progress: Fraction of the training that is done, 0 to 1.
        warmup: Fraction with a linear rise.
        decay: Fraction at the end with a fall to zero (1 - sqrt; Hägele et al., 2024).
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return progress / warmup
    if progress > 1.0 - decay:
        return 1.0 - math.sqrt((progress - (1.0 - decay)) / decay)
    return 1.0


class MasterOptimizer:
    """AdamW or Muon on fp32 copies of a model's (possibly bf16) parameters, with an average.

    Muon (Jordan et al., 2024) orthogonalises the momentum of hidden matrices; embeddings,
    vectors and the first and last projections use AdamW.

    Args:
        named_parameters: The model's parameters.
        lr: Peak learning rate of AdamW.
        muon_lr: Peak learning rate of Muon; 0 uses AdamW for everything.
        weight_decay: Decoupled weight decay of matrices.
        clip: Largest gradient norm.
        ema: Decay of the average per step.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        lr: float,
        muon_lr: float,
        weight_decay: float,
        clip: float,
        ema: float,
    ) -> None:
        pairs = [(n, p) for n, p in named_parameters if p.requires_grad]
        self.names = [n for n, _ in pairs]
        self.parameters: list[Tensor] = [p for _, p in pairs]
        self.master = [p.detach().float().clone() for p in self.parameters]
        self.average = [m.clone() for m in self.master]
        self._clip = clip
        self._ema = ema
        self._steps = 0
        muon = [
            muon_lr > 0.0 and m.ndim == 2 and not _is_edge(n)
            for n, m in zip(self.names, self.master, strict=True)
        ]
        hidden = [m for m, is_muon in zip(self.master, muon, strict=True) if is_muon]
        matrices = [
            m for m, is_muon in zip(self.master, muon, strict=True) if not is_muon and m.ndim > 1
        ]
        vectors = [m for m in self.master if m.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
        ]
        self._peaks = [lr]
        # Several small ones, so that threads can share the work of one step: largest first, dealt
        # out like cards.
        hidden.sort(key=Tensor.numel, reverse=True)
        for part in (hidden[i::_MUON_PARTS] for i in range(min(_MUON_PARTS, len(hidden)))):
            self._optimizers.append(
                torch.optim.Muon(
                    part,
                    lr=muon_lr,
                    weight_decay=weight_decay,
                    momentum=0.95,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
            self._peaks.append(muon_lr)

    def step(
        self,
        gradients: Sequence[Tensor | None],
        factor: float,
        run: Callable[..., Iterable[Any]] = map,
    ) -> float:
        """One update.

        Args:
            gradients: fp32, in the order of ``parameters``; None where a parameter is unused.
            factor: Times the peak rate.
            run: Like ``map``; that of a pool of threads shares out the work.

        Returns:
            The gradients' norm before clipping.
        """
        for master, gradient in zip(self.master, gradients, strict=True):
            master.grad = gradient
        known = [gradient for gradient in gradients if gradient is not None]
        norm = torch.nn.utils.get_total_norm(known)
        torch._foreach_mul_(known, torch.clamp(self._clip / (norm + 1e-6), max=1.0))
        for optimizer, peak in zip(self._optimizers, self._peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
        list(run(_step, self._optimizers))
        self._steps += 1
        decay = min(self._ema, (1.0 + self._steps) / (10.0 + self._steps))
        torch._foreach_lerp_(self.average, self.master, 1.0 - decay)
        self.load_into_model(self.master)
        return float(norm)

    def load_into_model(self, source: list[Tensor]) -> None:
        """Copies ``master`` or ``average`` into the model's parameters."""
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, source)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Sets master weights and average of the parameters that ``weights`` names."""
        for name, master, average in zip(self.names, self.master, self.average, strict=True):
            if name in weights:
                master.copy_(weights[name])
                average.copy_(weights[name])
        self.load_into_model(self.master)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue exactly."""
        return {
            "names": self.names,
            "master": self.master,
            "average": self.average,
            "steps": self._steps,
            "optimizers": [o.state_dict() for o in self._optimizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from ``state_dict``'s result.

        Raises:
            ValueError: If it belongs to a model with other parameters.
        """
        if state["names"] != self.names:
            different = set(state["names"]) ^ set(self.names)
            raise ValueError(f"the saved state has other parameters: {sorted(different)[:5]}")
        torch._foreach_copy_(self.master, state["master"])
        torch._foreach_copy_(self.average, state["average"])
        self._steps = int(state["steps"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.load_into_model(self.master)


def _step(optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()


def _is_edge(name: str) -> bool:
    """Embeddings and first or last projections, which Muon's analysis does not cover."""
    edges = ("embed", "action_in_proj", "state_proj", "action_out_proj", "head")
    return any(edge in name for edge in edges)
