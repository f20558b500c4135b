# SPDX-License-Identifier: Apache-2.0
"""Normalisation of states and actions. Missing statistics are an error, never the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .types import Array, CheckpointError

# Below these spreads a dimension carries no signal worth amplifying: m, unitless (6-D), m.
_ACTION_FLOOR = np.array([0.003] * 3 + [0.02] * 6 + [0.004])
_STATE_FLOOR = 0.01


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of the training data.

    Actions have their own statistics per step: early steps move millimetres and late ones
    centimetres, and both should count the same in the loss.

    Attributes:
        state_mean: (S,).
        state_std: (S,).
        action_mean: (H, A).
        action_std: (H, A).
        samples: Number of samples they were taken over.
    """

    state_mean: Array
    state_std: Array
    action_mean: Array
    action_std: Array
    samples: int

    def __post_init__(self) -> None:
        for name in ("state_std", "action_std"):
            if not np.all(getattr(self, name) > 0.0):
                raise CheckpointError(f"statistics: {name} has entries that are not positive")
        for name in ("state_mean", "action_mean"):
            if not np.all(np.isfinite(getattr(self, name))):
                raise CheckpointError(f"statistics: {name} has entries that are not finite")
        if self.state_mean.shape != self.state_std.shape or self.state_mean.ndim != 1:
            raise CheckpointError(
                f"statistics: state_mean {self.state_mean.shape} and state_std "
                f"{self.state_std.shape} must be equal vectors"
            )
        if self.action_mean.shape != self.action_std.shape or self.action_mean.ndim != 2:
            raise CheckpointError(
                f"statistics: action_mean {self.action_mean.shape} and action_std "
                f"{self.action_std.shape} must be equal and (horizon, entries of an action)"
            )

    @staticmethod
    def of(states: npt.NDArray[Any], actions: npt.NDArray[Any]) -> Statistics:
        """Statistics of states (N, S) and actions (N, H, 10)."""
        if len(states) != len(actions) or len(states) < 2:
            raise ValueError(
                f"{len(states)} states and {len(actions)} actions; need equally many, 2 or more"
            )
        return Statistics(
            state_mean=np.mean(states, axis=0, dtype=np.float64),
            state_std=np.maximum(np.std(states, axis=0, dtype=np.float64), _STATE_FLOOR),
            action_mean=np.mean(actions, axis=0, dtype=np.float64),
            action_std=np.maximum(np.std(actions, axis=0, dtype=np.float64), _ACTION_FLOOR),
            samples=len(states),
        )

    def normalise_state(self, state: npt.NDArray[Any]) -> Array:
        """(..., S) to zero mean and unit variance."""
        return np.asarray((state - self.state_mean) / self.state_std)

    def normalise_actions(self, actions: npt.NDArray[Any]) -> Array:
        """(..., H, A) to zero mean and unit variance."""
        return np.asarray((actions - self.action_mean) / self.action_std)

    def restore_actions(self, actions: npt.NDArray[Any]) -> Array:
        """Inverse of ``normalise_actions``."""
        return np.asarray(actions * self.action_std + self.action_mean)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for JSON."""
        return {
            "samples": self.samples,
            "state": {"mean": self.state_mean.tolist(), "std": self.state_std.tolist()},
            "action": {"mean": self.action_mean.tolist(), "std": self.action_std.tolist()},
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Statistics:
        """Reads ``to_dict``'s result.

        Raises:
            CheckpointError: Naming the entry that is missing or malformed.
        """

        def entry(group: str, name: str) -> Array:
            if group not in values or name not in values[group]:
                raise CheckpointError(f"statistics lack {group}.{name}")
            return np.asarray(values[group][name], dtype=np.float64)

        if "samples" not in values:
            raise CheckpointError("statistics lack samples")
        return Statistics(
            state_mean=entry("state", "mean"),
            state_std=entry("state", "std"),
            action_mean=entry("action", "mean"),
            action_std=entry("action", "std"),
            samples=int(values["samples"]),
        )
