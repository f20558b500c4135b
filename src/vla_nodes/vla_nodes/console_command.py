# SPDX-License-Identifier: Apache-2.0
"""`vla console`: serves the operator's page of a running system."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rclpy.node import Node

from vla_nodes.console.certificate import addresses, ensure, fingerprint
from vla_nodes.console.link import ConsoleLink
from vla_nodes.console.server import Address, ConsoleServer
from vla_nodes.node_tools import Diagnostics, run
from vla_nodes.teleop.clutch import Bounds

DIAGNOSTICS_RATE = 2.0  # Hz


class ConsoleNode(Node):
    """Serves the page as long as it is spun."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Begins to serve and prints where."""
        super().__init__("console")
        bounds = Bounds(speed=options.speed, turning=options.turning)
        self.link = ConsoleLink(self, bounds, options.max_opening)
        self.server = ConsoleServer(self.link, _address(options))
        self._diagnostics = Diagnostics(self, DIAGNOSTICS_RATE, self.link.health)
        self.server.start()
        print(f"Console: {self.server.invitation()}", flush=True)
        print("The address opens the page once; the page can invite others.", flush=True)

    def close(self) -> None:
        """Ends all connections."""
        self.server.stop()


def _address(options: argparse.Namespace) -> Address:
    if not options.lan:
        return Address("127.0.0.1", options.port, ("127.0.0.1", "localhost"))
    names = addresses()
    if not names:
        raise OSError("this machine has no address but its own; connect it, or leave --lan away")
    home = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"))
    certificate, key = ensure(home / "vla", [*names, "localhost", "127.0.0.1"])
    print(f"Browsers warn once of this certificate; its SHA-256 is {fingerprint(certificate)}")
    return Address("0.0.0.0", options.port, (*names, "localhost", "127.0.0.1"), certificate, key)


def main(options: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    sys.argv = sys.argv[:1]  # what follows is ours, not ROS's
    return run(lambda: ConsoleNode(options))
