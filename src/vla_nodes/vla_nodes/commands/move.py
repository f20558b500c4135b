# SPDX-License-Identifier: Apache-2.0
"""`vla move`: moves the arm of a running system to a joint target and says how it ended."""

from __future__ import annotations

import argparse
import sys

import rclpy
from rclpy.signals import SignalHandlerOptions

from vla_nodes.commands import figures
from vla_nodes.node_tools import spin_aside
from vla_nodes.teleop.joint_mover import JointMover, MoveError


def targets(options: argparse.Namespace) -> dict[str, float] | None:
    """Joint name to position, rad; None = home.

    Raises:
        MoveError: The command line names neither or both, or a joint twice.
    """
    if (options.target is None) == (options.joints is None):
        raise MoveError("name one target: home, or --joints NAME=RAD ...")
    if options.joints is None:
        return None
    wanted: dict[str, float] = {}
    for text in options.joints:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            raise MoveError(f"{text!r} is not of the form NAME=RAD") from None
        if name in wanted:
            raise MoveError(f"{name} is named twice")
        wanted[name] = number
    return wanted


def main(options: argparse.Namespace) -> int:
    """Moves the arm. Exit status 1 when it did not get there."""

    def tell(text: str) -> None:
        print(text, file=sys.stderr if options.json else sys.stdout, flush=True)

    try:
        target = targets(options)
    except MoveError as error:
        print(f"vla move: {error}", file=sys.stderr)
        return 2
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    mover = JointMover()
    spinner = spin_aside(mover)
    try:
        moved = mover.move(target, robot=options.robot, scaling=options.scaling, tell=tell)
    except MoveError as error:
        print(f"vla move: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vla move: interrupted; the arm brakes and holds", file=sys.stderr)
        return 130
    finally:
        rclpy.try_shutdown()
        spinner.join(timeout=5.0)
    tell(f"done: {1e3 * moved.joint_error:.1f} mrad from the target at most")
    if options.json:
        numbers = {"joint_error_rad": moved.joint_error, "duration_s": moved.duration}
        print(figures.report(numbers, {"target": target or "home", "robot": options.robot}))
    return 0
