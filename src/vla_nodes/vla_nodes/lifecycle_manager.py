# SPDX-License-Identifier: Apache-2.0
"""lifecycle_manager: brings the lifecycle nodes to ACTIVE, in order, and again after a restart."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.node import Node

from vla_nodes.configs import LifecycleConfig
from vla_nodes.node_tools import OK, WARN, Diagnostics, EssentialThread, run
from vla_nodes.parameters import declare

ANSWER_TIMEOUT = 5.0  # s for a state to be told
RETRY_PERIOD = 5.0  # s after a transition that failed
NEXT_STEP = {
    State.PRIMARY_STATE_UNCONFIGURED: (Transition.TRANSITION_CONFIGURE, "configure"),
    State.PRIMARY_STATE_INACTIVE: (Transition.TRANSITION_ACTIVATE, "activate"),
}


class LifecycleManager(Node):
    """A thread walks over the nodes; a node waits for those before it."""

    def __init__(self) -> None:
        """Declares parameters and starts the thread."""
        super().__init__("lifecycle_manager")
        self.config = declare(self, LifecycleConfig, "lifecycle_manager")
        self._waits_for = "not started"
        self._states: dict[str, str] = {}
        self._stopping = threading.Event()
        self._get = {
            name: self.create_client(GetState, f"{name}/get_state")
            for name in self.config.node_names
        }
        self._change = {
            name: self.create_client(ChangeState, f"{name}/change_state")
            for name in self.config.node_names
        }
        self._diagnostics = Diagnostics(self, self.config.diagnostics_rate, self._health)
        self._thread = EssentialThread(target=self._run, name="manage", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops the thread."""
        self._stopping.set()
        self._thread.join(timeout=ANSWER_TIMEOUT)

    def _run(self) -> None:
        while not self._stopping.wait(self.config.period):
            self._waits_for = next(
                (told for name in self.config.node_names if (told := self._advance(name))), ""
            )

    def _advance(self, name: str) -> str:
        """Takes one node to ACTIVE. Returns what is in the way; empty = it is active."""
        while not self._stopping.is_set():
            told = self._call(self._get[name], GetState.Request(), ANSWER_TIMEOUT)
            if told is None:
                self._states[name] = "absent"
                return f"{name} does not answer"
            self._states[name] = told.current_state.label
            step = NEXT_STEP.get(told.current_state.id)
            if step is None:
                active = told.current_state.id == State.PRIMARY_STATE_ACTIVE
                return "" if active else f"{name} is {told.current_state.label}"
            transition, verb = step
            self.get_logger().info(f"{verb} {name}")
            request = ChangeState.Request(transition=Transition(id=transition))
            timeout = self.config.transition_timeout
            done = self._call(self._change[name], request, timeout)
            if done is None:
                return f"{name} did not {verb} within {timeout:g} s"
            if not done.success:
                problem = f"{name} failed to {verb}; its log says why"
                self.get_logger().error(problem)
                self._waits_for = problem
                self._stopping.wait(RETRY_PERIOD)
                return problem
        return "stopping"

    def _call(self, client: Any, request: Any, timeout: float) -> Any:
        """The answer of a service; None when it is not there or does not answer in time."""
        if not client.service_is_ready():
            return None
        future = client.call_async(request)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        deadline = time.monotonic() + timeout
        while not done.wait(0.1):
            gone = not client.service_is_ready()
            if gone or time.monotonic() > deadline or self._stopping.is_set():
                client.remove_pending_request(future)
                return None
        return future.result()

    def _health(self) -> tuple[bytes, str, Mapping[str, Any]]:
        waits_for = self._waits_for
        return (
            WARN if waits_for else OK,
            f"waits: {waits_for}" if waits_for else "all nodes are active",
            dict(self._states),
        )


def main() -> int:
    """Runs the node."""
    return run(LifecycleManager)


if __name__ == "__main__":
    sys.exit(main())
