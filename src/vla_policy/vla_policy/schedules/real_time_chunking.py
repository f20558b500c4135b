# SPDX-License-Identifier: Apache-2.0
"""Real-time chunking (Black, Galliker, Levine, 2025); the sampler is in ``samplers``."""

from __future__ import annotations

from dataclasses import replace

from ..continuation import MAX_WEIGHT, Continuation, overlap_weights, prefix_weights
from ..interface import Context, Policy
from ..types import ActionChunk, Array, RobotState
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
    max_weight = MAX_WEIGHT
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
        weights = self._weights(delay, left)
        held = Continuation(commanded, openings, weights, self.max_weight)
        return replace(policy.act(context, state, held), conditioned_steps=delay)

    def _weights(self, delay: int, left: int) -> Array:
        """W (H,), with ``left`` steps left of the chunk under way."""
        return overlap_weights(self._horizon, delay, self._horizon - left)


class HeldPrefix(RealTimeChunking):
    """Real-time chunking without its soft part, and held less hard.

    Not as published. The soft part holds the steps that are executed next to a plan that is
    older by a whole period; in contact, where each new chunk is to correct the last, the reference
    then runs on into what blocks it.
    """

    name = "rtc_prefix"
    max_weight = 1.0

    def _weights(self, delay: int, left: int) -> Array:
        return prefix_weights(self._horizon, delay)
