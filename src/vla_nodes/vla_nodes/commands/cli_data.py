# SPDX-License-Identifier: Apache-2.0
"""The part of the command line `vla` that makes datasets of recorded episodes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_data_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    bag_commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Adds `vla convert`, `vla replay` and `vla bag view`."""
    view = bag_commands.add_parser("view", help="write one page about an episode, film included")
    view.set_defaults(module="vla_nodes.commands.bag_view")
    view.add_argument("bag", type=Path, help="folder of a bag, or an MCAP file")
    view.add_argument("--out", type=Path, metavar="FILE", help="(beside the bag)")
    view.add_argument(
        "--rerun", action="store_true", help="instead: a recording for Rerun's viewer (.rrd)"
    )
    convert = commands.add_parser("convert", help="turn recorded episodes into a dataset")
    convert.set_defaults(module="vla_nodes.commands.convert")
    convert.add_argument("bag", nargs="+", type=Path, help="folder of a bag, or of bags")
    convert.add_argument("--to", choices=("lerobot",), default="lerobot", help="LeRobotDataset v3")
    convert.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="receives the dataset; resumable"
    )
    convert.add_argument(
        "--rate", type=int, metavar="HZ", help="of the rows (that of the slowest camera)"
    )
    convert.add_argument("--codec", choices=("h264", "av1"), default="h264", help="of the films")
    convert.add_argument("--system", help="that was recorded, where the bags do not say (config/)")
    convert.add_argument(
        "--contract", type=Path, metavar="YAML", help="of the robot, instead of its system's"
    )
    cores = len(os.sched_getaffinity(0))
    convert.add_argument("--workers", type=int, default=cores, help="processes (one per core)")
    convert.add_argument("--json", action="store_true", help="print one JSON object")
    replay = commands.add_parser("replay", help="run a recorded episode once more, and compare")
    replay.set_defaults(module="vla_nodes.commands.replay")
    replay.add_argument("bag", type=Path, help="folder of a bag, or an MCAP file")
    replay.add_argument(
        "--policy",
        type=Path,
        metavar="CHECKPOINT",
        help="run it (nano_pi0: the committed one) on the recorded pictures and compare chunks; "
        "without it, the recorded chunks go through the controller in lockstep simulation",
    )
    replay.add_argument("--suite", help="that the scene was drawn for (default: as the bag says)")
    replay.add_argument("--system", help="that was recorded, where the bag does not say (config/)")
    replay.add_argument("--contract", type=Path, metavar="YAML", help="of the robot, instead of it")
    replay.add_argument("--json", action="store_true", help="print one JSON object")
