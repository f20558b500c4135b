# SPDX-License-Identifier: Apache-2.0
"""Synchronous execution: the arm waits while the policy infers."""

from __future__ import annotations

from dataclasses import replace

from ..types import ActionChunk
from .base import Schedule


class Synchronous(Schedule):
    """The chunk begins when it arrives, ends after the steps executed, and the arm stands still
    until the next one.
    """  # noqa: D205

    name = "synchronous"

    @property
    def is_late(self) -> bool:
        """Never: the arm waits."""
        return False

    def deliver(self, chunk: ActionChunk, now_ns: int) -> ActionChunk:
        """The steps to be executed, from now on."""
        kept = slice(self._execute_steps + 1)
        return replace(
            chunk,
            stamp_ns=now_ns,
            commanded=chunk.commanded[kept],
            gripper_opening=chunk.gripper_opening[kept],
        )

    def due_ns(self, observed_ns: int, delivered_ns: int) -> int:
        """When the steps have been executed."""
        del observed_ns
        return delivered_ns + self._ns(self._execute_steps)
