# SPDX-License-Identifier: Apache-2.0
"""`vla failure answer`: the operator's answer to an arm that asks for help."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.node import Node
from std_srvs.srv import Trigger

from vla_msgs.msg import ControlOwner
from vla_msgs.srv import SetPaused
from vla_nodes.node_tools import RELIABLE

APPEAR, ANSWERED = 10.0, 10.0  # s (steady)


class Operator(Node):
    """Hears the supervisor and answers it."""

    def __init__(self) -> None:
        """Connects."""
        super().__init__("vla_failure_answer")
        self.owner: ControlOwner | None = None
        self.create_subscription(ControlOwner, "control_owner", self._on_owner, RELIABLE)
        self._pause = self.create_client(SetPaused, "supervisor/set_paused")
        self._reset = self.create_client(Trigger, "supervisor/reset")

    def _on_owner(self, message: ControlOwner) -> None:
        self.owner = message

    def until(self, predicate: Callable[[], Any], timeout: float) -> bool:
        """Spins until something holds. Returns whether it does."""
        deadline = time.monotonic() + timeout
        while not predicate() and time.monotonic() < deadline:
            rclpy.spin_once(self, timeout_sec=0.1)
        return bool(predicate())

    def answer(self, goes_on: bool) -> str:
        """Answers. Returns why that did not work; empty = it did."""
        if not self.until(lambda: self.owner is not None, APPEAR) or self.owner is None:
            return "nobody publishes control_owner; is the system up?"
        grant = self.owner.grant
        client = self._pause if goes_on else self._reset
        request = SetPaused.Request(paused=False) if goes_on else Trigger.Request()
        if goes_on and self.owner.state != ControlOwner.STATE_ASKING:
            return f"the arm does not ask for help ({self.owner.reason})"
        if not client.wait_for_service(APPEAR):
            return f"{client.srv_name} is not there"
        done = client.call_async(request)
        if not self.until(done.done, ANSWERED):
            return f"{client.srv_name} does not answer"
        if not done.result().success:
            return str(done.result().message)
        if goes_on and not self.until(lambda: self.owner.grant != grant, ANSWERED):
            return self.owner.reason
        return ""


def main(options: argparse.Namespace) -> int:
    """Answers and says how that went."""
    rclpy.init()
    try:
        operator = Operator()
        why = operator.answer(options.answer == "go-on")
        if why:
            print(f"vla failure answer: {why}", file=sys.stderr)
            return 1
        print(operator.owner.reason if operator.owner else "")
        return 0
    finally:
        rclpy.try_shutdown()
