# SPDX-License-Identifier: Apache-2.0
"""Fast and slow: images are encoded at their own pace, chunks start from fresh joint states."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from vla_data.observation import Observation, ObservationError
from vla_nodes.inference.worker import POLL_PERIOD, Assignment, InferenceThread


@dataclass(frozen=True)
class Encoded:
    """A context, the policy that made it, and what it is of."""

    policy: Any
    context: Any
    stamp_ns: int
    instruction: tuple[tuple[int, int], int]
    latency: float


class FastInferenceThread(InferenceThread):
    """Two threads: one encodes the newest images, the other makes chunks at a fixed rate.

    A chunk starts from the joint state of its moment and is stamped with it; the age of its
    context is known, published, and limited: what is too old gives no chunk, and the controller
    brakes to a hold when the last one has run out. Each chunk comes from one policy, the one that
    encoded its context.
    """

    def __init__(
        self,
        *args: Any,
        observe_state: Callable[[int], Observation],
        act_rate: float,
        max_context_age: float,
        **more: Any,
    ) -> None:
        """Prepares the threads.

        Args:
            *args: As for ``InferenceThread``.
            observe_state: ROS time (ns) to the newest joint state, as an observation without
                images; raises ObservationError. Called in the fast thread.
            act_rate: Hz of the policy's time.
            max_context_age: s.
            **more: As for ``InferenceThread``.
        """
        super().__init__(*args, **more)
        self._observe_state = observe_state
        self._act_period_ns = round(1e9 / act_rate)
        self._max_context_age = max_context_age
        self._encoded: Encoded | None = None
        self._encoding_failure = ""
        self._slow: threading.Thread | None = None

    def start(self) -> None:
        """Starts both threads."""
        super().start()
        self._slow = threading.Thread(target=self._encode_always, name="encoding", daemon=True)
        self._slow.start()

    def stop(self) -> None:
        """Stops both; what is under way is finished first."""
        super().stop()
        if self._slow is not None:
            self._slow.join(timeout=30.0)
            self._slow = None

    # --- slow -------------------------------------------------------------------------------------

    def _encode_always(self) -> None:
        while True:
            assignment = self._next_assignment(POLL_PERIOD)
            if assignment is None:
                return
            if not assignment.active or not assignment.instruction.strip():
                continue
            try:
                self._encode(assignment)
                self._encoding_failure = ""
            except ObservationError as error:
                self._encoding_failure = str(error)
            except Exception as error:  # the thread must outlive a policy that fails once
                self.statistics.failure = f"{type(error).__name__}: {error}"
                self._encoding_failure = "inference failed"

    def _encode(self, assignment: Assignment) -> None:
        observation = self._observe(self._now_ns(), assignment.instruction)
        known = self._encoded
        asked = (assignment.grant, assignment.instruction_id)
        stale = known is None or known.instruction != asked or known.policy is not self.policy
        if observation.stamp_ns < assignment.since_ns or (
            not stale and known is not None and observation.stamp_ns <= known.stamp_ns
        ):
            return
        policy = self._take_policy()
        began = time.monotonic()
        context = policy.encode(observation)
        self._encoded = Encoded(
            policy, context, observation.stamp_ns, asked, time.monotonic() - began
        )
        self.notify()

    # --- fast -------------------------------------------------------------------------------------

    def _step(self, assignment: Assignment, due_ns: int) -> int:
        ros_now_ns = self._now_ns()
        now_ns = self._time.of(ros_now_ns)
        if now_ns < due_ns:
            return due_ns
        encoded = self._encoded
        if encoded is None or encoded.instruction != (
            assignment.grant,
            assignment.instruction_id,
        ):
            if self._encoding_failure:
                self._block(self._encoding_failure, part="context")
            return due_ns
        try:
            state = self._observe_state(ros_now_ns)
        except ObservationError as error:
            self._block(str(error), part=error.part)
            return due_ns
        age = (state.stamp_ns - encoded.stamp_ns) * 1e-9
        if age > self._max_context_age:
            why = f" ({self._encoding_failure})" if self._encoding_failure else ""
            self._block(
                f"context: is {age:.3f} s old, limit {self._max_context_age} s{why}",
                part="context",
            )
            return due_ns
        began = time.monotonic()
        chunk = replace(encoded.policy.act(encoded.context, state), stamp_ns=state.stamp_ns)
        self._send(
            chunk,
            encoded.policy,
            state,
            assignment,
            0,
            encoded.latency,
            time.monotonic() - began,
            age,
        )
        # On the grid of the rate, without making up for what was missed.
        return due_ns + self._act_period_ns * (1 + (now_ns - due_ns) // self._act_period_ns)
