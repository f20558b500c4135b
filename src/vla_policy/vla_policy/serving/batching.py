# SPDX-License-Identifier: Apache-2.0
"""Computes for all clients, for several of them at once where they wait together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..types import PolicyError


@dataclass(eq=False)
class _Job:
    kind: str
    item: Any
    result: Any = None
    done: bool = False


class Batcher:
    """Gathers requests of one kind and computes them together.

    A request waits for nobody: whoever finds nothing being computed computes, in its own thread,
    and what has come in meanwhile is the next batch. One thread computes at a time.

    Args:
        compute: By kind, from items to as many results; a result may be an exception.
        max_batch: Most items at once.
        max_waiting: Requests waiting beyond which new ones are refused.
    """

    def __init__(
        self,
        compute: dict[str, Callable[[Sequence[Any]], Sequence[Any]]],
        *,
        max_batch: int = 8,
        max_waiting: int = 64,
    ) -> None:
        self._compute = compute
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: deque[_Job] = deque()  # taken from by whose turn it is
        self._turn = threading.Lock()
        self.batches = 0
        self.items = 0

    def submit(self, kind: str, item: Any) -> Any:
        """The result for an item. Any thread.

        Args:
            kind: Of the computation.
            item: What it is for.

        Raises:
            PolicyError: If too many wait already, or as the computation says.
        """
        if len(self._waiting) >= self._max_waiting:
            raise PolicyError("the server has too much to do")
        job = _Job(kind, item)
        self._waiting.append(job)
        with self._turn:
            while not job.done:
                self._finish_next()
        result = job.result
        if not isinstance(result, Exception):
            return result
        try:
            raise result
        finally:
            del job, result  # the error's traceback knows this frame, and the frame knew it

    def _finish_next(self) -> None:
        """Computes a batch; in order of arrival."""
        batch = [self._waiting.popleft()]
        kind = batch[0].kind
        while self._waiting and len(batch) < self._max_batch and self._waiting[0].kind == kind:
            batch.append(self._waiting.popleft())
        results = self._results(kind, [job.item for job in batch])
        for job, result in zip(batch, results, strict=True):
            job.result, job.done = result, True

    def _results(self, kind: str, items: Sequence[Any]) -> Sequence[Any]:
        self.batches += 1
        self.items += len(items)
        try:
            return self._compute[kind](items)
        except Exception as error:  # one batch's failure must not end the service
            return [error] * len(items)
