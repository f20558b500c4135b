# SPDX-License-Identifier: Apache-2.0
"""`vla console`: serves the operator's page of a running system."""

from __future__ import annotations

import argparse
import sys

from vla_nodes import console_node


def main(options: argparse.Namespace) -> int:
    """Runs the node with the command line's parameters until Ctrl-C."""
    given = {name: getattr(options, name) for name in ("port", "speed", "turning", "max_opening")}
    given["lan"] = str(options.lan).lower()
    if options.recordings is not None:
        given["recordings"] = options.recordings.resolve()
    parameters = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
    sys.argv = [sys.argv[0], "--ros-args", *parameters]
    return console_node.main()
