# SPDX-License-Identifier: Apache-2.0
"""Temporal ensembling: every step is the mean of all chunks that speak of its time.

Zhao et al., 2023, "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware": weights
``exp(-m·i)``, i = 0 for the oldest, m = 0.01. The paper infers at every step, so that one of many
chunks ends at a time. With eight steps between inferences two overlap, and where the older one ends
the mean would jump by half of what they differ: so each older chunk's weight falls linearly to zero
over what is left of it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from ..interface import Context, Policy
from ..poses import make_pose
from ..types import ActionChunk, Array, RobotState
from .base import Schedule
from .resampling import resample

DECAY = 0.01


class TemporalEnsembling(Schedule):
    """Naive asynchronous, with means of overlapping chunks."""

    name = "temporal_ensembling"
    _chunks: tuple[ActionChunk, ...] = ()

    def reset(self) -> None:
        """Forgets the chunks."""
        self._chunks = ()

    def act(self, policy: Policy, context: Context, state: RobotState) -> ActionChunk:
        """The mean of the new chunk and those before it, oldest first."""
        chunk = policy.act(context, state)
        older = [(one, resample(one, chunk.stamp_ns)) for one in self._chunks]
        older = [(one, rest) for one, rest in older if len(rest[1])]
        self._chunks = (*(one for one, _ in older), chunk)
        rests = [rest for _, rest in older]
        commanded, openings = ensemble([*rests, (chunk.commanded, chunk.gripper_opening)])
        return replace(chunk, commanded=commanded, gripper_opening=openings)


def ensemble(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Weighed means, step by step, of references and openings that begin at the same time.

    Args:
        parts: (h, 4, 4) or (h, n), and (h,), oldest first; the last is the longest.
    """
    commanded, openings = (values.copy() for values in parts[-1])
    for step in range(len(openings)):
        known = [(i, part) for i, part in enumerate(parts) if step < len(part[1])]
        if len(known) == 1:
            continue
        # The newest does not fade: what is behind the others' ends is its own.
        left = [1.0 if i == len(parts) - 1 else 1.0 - step / len(part[1]) for i, part in known]
        weights = np.exp(-DECAY * np.arange(len(known))) * left
        weights /= weights.sum()
        here = np.stack([part[0][step] for _, part in known])
        if commanded.ndim == 2:
            commanded[step] = weights @ here
        else:
            turn = Rotation.from_matrix(here[:, :3, :3]).mean(weights).as_matrix()
            commanded[step] = make_pose(weights @ here[:, :3, 3], turn)
        openings[step] = weights @ [part[1][step] for _, part in known]
    return commanded, openings
