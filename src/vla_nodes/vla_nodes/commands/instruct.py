# SPDX-License-Identifier: Apache-2.0
"""`vla instruct` and `vla speed`: change the task under way without ending it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import rclpy

from vla_msgs.srv import SetInstruction, SetSpeed

APPEAR, ANSWERED = 10.0, 10.0  # s (steady)


def _call(kind: Any, name: str, request: Any) -> str:
    """Calls a service of the supervisor. Returns why that did not work; empty = it did."""
    node = rclpy.create_node("vla_instruct")
    client = node.create_client(kind, name)
    if not client.wait_for_service(APPEAR):
        return f"{client.srv_name} is not there; is the system up?"
    answer = client.call_async(request)
    rclpy.spin_until_future_complete(node, answer, timeout_sec=ANSWERED)
    if not answer.done():
        return f"{client.srv_name} does not answer"
    return "" if answer.result().success else str(answer.result().message)


def main(options: argparse.Namespace) -> int:
    """Changes it and says how that went."""
    rclpy.init()
    try:
        if options.instruction is None:
            name, done = "speed", f"speed {options.speed:g}"
            request: Any = SetSpeed.Request(speed=options.speed, reason="by vla speed")
            why = _call(SetSpeed, "supervisor/set_speed", request)
        else:
            name, done = "instruct", options.instruction
            request = SetInstruction.Request(instruction=options.instruction, task=options.task)
            why = _call(SetInstruction, "supervisor/set_instruction", request)
    finally:
        rclpy.try_shutdown()
    if why:
        print(f"vla {name}: {why}", file=sys.stderr)
        return 1
    print(done)
    return 0
