# SPDX-License-Identifier: Apache-2.0
"""Real-time chunking (Black, Galliker, Levine, 2025); the sampler is in ``samplers``."""

from __future__ import annotations

from dataclasses import replace

from ..continuation import Continuation, overlap_weights
from ..interface import Context, Policy
from ..types import ActionChunk, RobotState
from .base import Schedule
from .resampling import resample


class RealTimeChunking(Schedule):
    """The new chunk is sampled so that it goes on from the one under way.

    What is left of that one is taken at the new chunk's times, expressed relative to the new
    observation and normalised anew; the steps that will have been executed when the new chunk
    arrives are held hard, those behind them ever more loosely.
    """

    name = "rtc"
    needs_flow = True
    _previous: ActionChunk | None = None

    def reset(self) -> None:
        """Forgets the chunk before."""
        self._previous = None

    def act(self, policy: Policy, context: Context, state: RobotState) -> ActionChunk:
        """A chunk guided towards the one before."""
        chunk = self._sample(policy, context, state)
        self._previous = chunk
        return chunk

    def _sample(self, policy: Policy, context: Context, state: RobotState) -> ActionChunk:
        if self._previous is None or self._previous.stamp_ns > state.stamp_ns:
            return policy.act(context, state)
        commanded, openings = resample(self._previous, state.stamp_ns)
        left = len(openings)
        if left == 0:
            return policy.act(context, state)
        delay = min(self.delay.steps, left)
        weights = overlap_weights(self._horizon, delay, self._horizon - left)
        chunk = policy.act(context, state, Continuation(commanded, openings, weights))
        return replace(chunk, conditioned_steps=delay)
