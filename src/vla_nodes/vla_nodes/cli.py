# SPDX-License-Identifier: Apache-2.0
"""The command line `vla`. Nothing heavy is imported before a command is chosen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path


def _episodes(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"{value} is not within 0 to 100000")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets ``module``, whose ``main(options)`` runs it."""
    parser = argparse.ArgumentParser(
        prog="vla",
        description="Runs, records, trains and evaluates vision-language-action policies.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_up(commands)
    _add_policy_commands(commands)
    _add_tools(commands)
    return parser


def _add_up(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    up = commands.add_parser("up", help="run a system: nodes over DDS, and episodes of its tasks")
    up.set_defaults(module="vla_nodes.up")
    up.add_argument("system", help="name of a system, or its folder (see config/)")
    up.add_argument(
        "--episodes", type=_episodes, default=0, help="episodes to run; 0 = until Ctrl-C"
    )
    up.add_argument("--task", action="append", help="task to run; may be repeated (default: all)")
    up.add_argument("--instruction", help="what to do, in words, instead of the task's own")
    up.add_argument("--time-limit", type=_positive, help="s of ROS time per episode")
    up.add_argument("--seed", type=int, default=0, help="first scene, counted in its range")
    up.add_argument("--policy", help="checkpoint, instead of the system's own")
    up.add_argument("--record", type=Path, metavar="DIR", help="folder for one bag per episode")
    up.add_argument("--report", type=Path, metavar="DIR", help="folder for the report and the log")
    up.add_argument("--viewer", action="store_true", help="open MuJoCo's viewer")
    up.add_argument("--json", action="store_true", help="print figures as one JSON object")


def _add_policy_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, text in (
        ("demos", "make demonstrations with the scripted experts"),
        ("train", "train the default policy on demonstrations"),
        ("eval", "evaluate a policy in lockstep simulation"),
    ):
        command = commands.add_parser(name, help=text, add_help=False)
        command.set_defaults(module=f"vla_nodes.{name}_command")
        command.add_argument("arguments", nargs=argparse.REMAINDER)


def _add_tools(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser("doctor", help="check the installation and say what is missing")
    doctor.set_defaults(module="vla_nodes.doctor")
    doctor.add_argument("--json", action="store_true", help="print the checks as one JSON object")
    bag = commands.add_parser("bag", help="look at recorded episodes")
    bag_commands = bag.add_subparsers(metavar="COMMAND", required=True)
    info = bag_commands.add_parser("info", help="what a bag holds")
    info.set_defaults(module="vla_nodes.bag_command")
    info.add_argument("bag", nargs="+", type=Path, help="folder of a bag, or an MCAP file")
    info.add_argument("--json", action="store_true", help="print one JSON object")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the command. Returns the exit status."""
    options = make_parser().parse_args(arguments)
    try:
        return int(import_module(options.module).main(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


if __name__ == "__main__":
    sys.exit(main())
