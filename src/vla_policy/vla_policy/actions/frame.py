# SPDX-License-Identifier: Apache-2.0
"""The normalised actions of one observation, as samplers see them, and what they mean in space."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..statistics import Statistics
from ..types import Array
from .spec import ActionSpec


class ActionFrame:
    """Conversion between references in the base frame and a network's normalised actions.

    Args:
        spec: Meaning of the actions.
        statistics: Their normalisation, step by step; what it has more entries than the actions is
            padding, which is 0.
        observed: What relative actions start from; see ``ActionSpec.observed``.
        device: Of the network.
    """

    def __init__(
        self,
        spec: ActionSpec,
        statistics: Statistics,
        observed: npt.NDArray[np.float64],
        device: torch.device,
    ) -> None:
        self._spec = spec
        self._statistics = statistics
        self._observed = np.asarray(observed, dtype=np.float64)
        self._device = device
        self._mean = self._tensor(statistics.action_mean)
        self._std = self._tensor(statistics.action_std)

    def encode(
        self, commanded: npt.NDArray[np.float64], gripper_opening: npt.NDArray[np.float64]
    ) -> Tensor:
        """Normalised actions (1, H, A) of absolute references.

        The same references have other numbers under another observation, and each step has
        statistics of its own: what is left of an old chunk is to be encoded anew.

        Args:
            commanded: (h, 4, 4) tool poses in the base frame or (h, n) joint positions, h <= H;
                what lacks behind them is filled with the mean.
            gripper_opening: (h,) m.
        """
        actions = self._spec.encode(self._observed, commanded, gripper_opening)
        filled = self._statistics.action_mean.copy()
        filled[: len(actions), : self._spec.dim] = actions
        return self._tensor(self._statistics.normalise_actions(filled))[None]

    def decode(self, actions: Tensor) -> tuple[Array, Array]:
        """Absolute references and openings of normalised actions (1, H, A).

        Raises:
            ValueError: If they are not finite or a rotation is degenerate.
        """
        restored = self._statistics.restore_actions(actions[0].double().cpu().numpy())
        return self._spec.decode(self._observed, restored[:, : self._spec.dim])

    def restore(self, actions: Tensor) -> Tensor:
        """Actions (B, H, A) in their own units, of normalised ones."""
        return actions * self._std + self._mean

    def displacement(self, gradient: Tensor) -> Tensor:
        """Normalised displacement (B, H, A) along a reward's gradient.

        Args:
            gradient: (B, H, A) of a reward in m² with respect to actions in their own units, as
                far as it depends on ``positions``: one m of its gradient in space is one m of way.
        """
        return gradient / self._spec.translation_scale**2 / self._std

    def positions(self, actions: Tensor) -> Tensor:
        """Tool positions (B, H, 3) in the base frame, m, of actions in their own units.

        Raises:
            ValueError: If the action space does not give positions without its rotations.
        """
        spec = self._spec
        if spec.quantity != "pose" or (spec.relative_to, spec.frame) == ("previous_step", "tool"):
            raise ValueError(
                f"rewards on positions need poses that are absolute, relative to the observation "
                f"or steps in base axes; this policy's actions are {spec.quantity}, relative to "
                f"{spec.relative_to} in {spec.frame or 'no'} axes"
            )
        translation = actions[..., :3] * spec.translation_scale
        if spec.relative_to == "nothing":
            return translation
        if spec.relative_to == "previous_step":
            translation = translation.cumsum(dim=-2)
        if spec.frame == "tool":
            translation = translation @ self._tensor(self._observed[:3, :3].T)
        return translation + self._tensor(self._observed[:3, 3])

    def _tensor(self, values: npt.NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).float().to(self._device)
