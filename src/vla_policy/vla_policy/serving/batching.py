# SPDX-License-Identifier: Apache-2.0
"""Computes for all clients, for several of them at once where they wait together."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..types import PolicyError


@dataclass(frozen=True)
class _Job:
    kind: str
    item: Any
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]


class Batcher:
    """Gathers requests of one kind and computes them together.

    A request waits for nobody: what has come in while the thread was busy is taken as one batch.

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
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ahead: _Job | None = None  # of another kind, taken out of the queue already
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self.batches = 0
        self.items = 0

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread once it has done what is under way."""
        self._waiting.put(None)
        self._thread.join(timeout=30.0)

    async def submit(self, kind: str, item: Any) -> Any:
        """The result for an item; one loop submits.

        Args:
            kind: Of the computation.
            item: What it is for.

        Raises:
            PolicyError: If too many wait already, or as the computation says.
        """
        if self._waiting.qsize() >= self._max_waiting:
            raise PolicyError("the server has too much to do")
        loop = asyncio.get_running_loop()
        job = _Job(kind, item, loop, loop.create_future())
        self._waiting.put(job)
        return await job.answer

    def _run(self) -> None:
        while self._next():
            pass

    def _next(self) -> bool:
        """Computes a batch; whether another one may follow.

        A function of its own, so that nothing holds its items while the next ones are awaited.
        """
        first = self._ahead if self._ahead is not None else self._waiting.get()
        self._ahead = None
        if first is None:
            return False
        batch, go_on = [first], True
        while len(batch) < self._max_batch:
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                break
            if job is None:
                go_on = False
                break
            if job.kind != first.kind:
                self._ahead = job
                break
            batch.append(job)
        self._finish(batch)
        return go_on

    def _finish(self, batch: Sequence[_Job]) -> None:
        results = self._results(batch[0].kind, [job.item for job in batch])
        for job, result in zip(batch, results, strict=True):
            job.loop.call_soon_threadsafe(_settle, job.answer, result)

    def _results(self, kind: str, items: Sequence[Any]) -> Sequence[Any]:
        self.batches += 1
        self.items += len(items)
        try:
            return self._compute[kind](items)
        except Exception as error:  # one batch's failure must not end the service
            return [error] * len(items)


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.cancelled():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
