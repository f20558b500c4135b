# SPDX-License-Identifier: Apache-2.0
"""`vla teleop`: takes and moves the arm of a running system, by the keyboard or by an expert."""

from __future__ import annotations

import argparse
import sys
import time

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from vla_msgs.srv import SetPaused
from vla_nodes.node_tools import STEADY
from vla_nodes.teleop import keys
from vla_nodes.teleop.clutch import Bounds
from vla_nodes.teleop.driver import TeleopDriver

PERIOD = 0.02  # s


class KeyboardNode(Node):
    """Reads the terminal in the thread that spins it."""

    def __init__(self, descriptor: int, keyboard: keys.Keyboard) -> None:
        """Connects; ``descriptor`` is of a terminal."""
        super().__init__("vla_teleop")
        bounds = Bounds(speed=keyboard.speed, turning=keyboard.turning)
        self.driver = TeleopDriver(self, "keyboard", bounds)
        self.done = False
        self._descriptor, self._keyboard = descriptor, keyboard
        self._told = ""
        self._pause = self.create_client(SetPaused, "supervisor/set_paused")
        self.create_timer(PERIOD, self._read, clock=STEADY)

    def _read(self) -> None:
        now = time.monotonic()
        for key in keys.pressed(self._descriptor):
            if key == keys.QUIT:
                self.done = True
            elif key == keys.GO_ON:
                self._keyboard.let_go()
                if self._pause.service_is_ready():
                    self._pause.call_async(SetPaused.Request(paused=False)).add_done_callback(
                        lambda _: self.driver.let_go()
                    )
            else:
                self._keyboard.press(key, now)
        said = self._keyboard.said(now)
        if said is not None and not self.done:
            self.driver.hold(said)
        self._tell()

    def _tell(self) -> None:
        owner = self.driver.owner
        text = owner.reason if owner is not None else "nobody publishes control_owner yet"
        if self.driver.problem:
            text = self.driver.problem
        if text != self._told:
            self._told = text
            print(text, flush=True)


def _expert(mode: str) -> int:
    """A scripted expert is the operator, until Ctrl-C."""
    # Not needed for the keyboard.
    from vla_nodes.teleop.expert import ExpertOperator

    rclpy.init()
    node = ExpertOperator(mode)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        print(f"{node.episodes} episodes, {node.interventions} of them by the expert", flush=True)
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


def main(options: argparse.Namespace) -> int:
    """Moves the arm until q is pressed, or Ctrl-C with an expert."""
    if options.expert:
        return _expert(options.expert)
    if not sys.stdin.isatty():
        print(
            "vla teleop: standard input is no terminal; devices that speak ROS: teleop_node",
            file=sys.stderr,
        )
        return 2
    descriptor = sys.stdin.fileno()
    keyboard = keys.Keyboard(options.speed, options.turning, options.max_opening)
    rclpy.init()
    try:
        node = KeyboardNode(descriptor, keyboard)
        print(keys.LEGEND, flush=True)
        with keys.single_keys(descriptor):
            while not node.done:
                rclpy.spin_once(node, timeout_sec=0.1)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        rclpy.try_shutdown()
    return 0
