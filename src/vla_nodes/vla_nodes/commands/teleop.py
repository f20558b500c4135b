# SPDX-License-Identifier: Apache-2.0
"""`vla teleop`: takes and moves the arm of a running system, by a device or by an expert."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import rclpy
import yaml
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter

from vla_msgs.srv import SetPaused
from vla_nodes.node_tools import STEADY
from vla_nodes.parameters import ParameterError
from vla_nodes.teleop import keys
from vla_nodes.teleop.clutch import Bounds
from vla_nodes.teleop.driver import TeleopDriver

PERIOD = 0.02  # s


class Teller:
    """Prints who has the arm, and what is wrong with the device, when that changes."""

    def __init__(self, driver: TeleopDriver) -> None:
        """Has said nothing yet."""
        self._driver = driver
        self._told = ""

    def tell(self, problem: str = "") -> None:
        """Looks; ``problem`` is one that the driver does not know of."""
        owner = self._driver.owner
        text = owner.reason if owner is not None else "nobody publishes control_owner yet"
        text = problem or self._driver.problem or text
        if text != self._told:
            self._told = text
            print(text, flush=True)


class KeyboardNode(Node):
    """Reads the terminal in the thread that spins it."""

    def __init__(self, descriptor: int, keyboard: keys.Keyboard) -> None:
        """Connects; ``descriptor`` is of a terminal."""
        super().__init__("vla_teleop")
        bounds = Bounds(speed=keyboard.speed, turning=keyboard.turning)
        self.driver = TeleopDriver(self, "keyboard", bounds)
        self.done = False
        self._descriptor, self._keyboard = descriptor, keyboard
        self._teller = Teller(self.driver)
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
        self._teller.tell()


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


def _given(options: argparse.Namespace) -> dict[str, float]:
    """The bounds that the command line names."""
    bounds = {name: getattr(options, name) for name in ("speed", "turning", "max_opening")}
    return {name: value for name, value in bounds.items() if value is not None}


def overrides(device: str, given: Mapping[str, float], more: Sequence[str]) -> list[Parameter]:
    """Parameters of teleop_node.

    Args:
        device: Its ``input``.
        given: Its parameters by name.
        more: ``NAME=VALUE``, as YAML.

    Raises:
        ParameterError: Something is not of that form.
    """
    values: dict[str, Any] = {"input": device, **given}
    for text in more:
        name, equals, value = text.partition("=")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals:
            raise ParameterError(f"{text!r} is not of the form NAME=VALUE")
    return [Parameter(name, value=value) for name, value in values.items()]


def _device(options: argparse.Namespace) -> int:
    """A device moves the arm, until Ctrl-C."""
    # Not needed for the keyboard.
    from vla_nodes.teleop_node import TeleopNode

    rclpy.init()
    node = None
    try:
        chosen = overrides(options.device, _given(options), options.set)
        node = TeleopNode(parameter_overrides=chosen)
        teller = Teller(node.driver)
        while True:
            rclpy.spin_once(node, timeout_sec=0.1)
            teller.tell(node.problem)
    except (ParameterError, ValueError) as error:
        print(f"vla teleop: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        if node is not None:
            node.close()
        rclpy.try_shutdown()


def main(options: argparse.Namespace) -> int:
    """Moves the arm until q is pressed, or Ctrl-C with another device or an expert."""
    if options.expert:
        return _expert(options.expert)
    if options.device != "keyboard":
        return _device(options)
    if options.set:
        print("vla teleop: --set is for devices other than the keyboard", file=sys.stderr)
        return 2
    if not sys.stdin.isatty():
        print(
            "vla teleop: standard input is no terminal; see --device for other devices",
            file=sys.stderr,
        )
        return 2
    descriptor = sys.stdin.fileno()
    keyboard = keys.Keyboard(**_given(options))
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
