# SPDX-License-Identifier: Apache-2.0
"""console_node: serves the operator's page. See `console` for what it shows and believes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rclpy.node import Node

from vla_nodes.configs import ConsoleConfig
from vla_nodes.console.access import TOKEN
from vla_nodes.console.certificate import addresses, ensure, fingerprint
from vla_nodes.console.link import ConsoleLink
from vla_nodes.console.server import Address, ConsoleServer
from vla_nodes.node_tools import Diagnostics, run
from vla_nodes.parameters import declare
from vla_nodes.teleop.clutch import Bounds


class ConsoleNode(Node):
    """Serves the page as long as it is spun."""

    def __init__(self) -> None:
        """Begins to serve and prints where."""
        super().__init__("console")
        config = declare(self, ConsoleConfig, "console_node")
        bounds = Bounds(speed=config.speed, turning=config.turning)
        self.link = ConsoleLink(self, bounds, config.max_opening)
        recordings = Path(config.recordings) if config.recordings else None
        token = os.environ.pop(TOKEN, "")
        self.server = ConsoleServer(self.link, address(config), token, recordings)
        self._diagnostics = Diagnostics(self, config.diagnostics_rate, self.link.health)
        self.server.start()
        print(f"Console: {self.server.invitation()}", flush=True)
        print("The address opens the page once; the page can invite others.", flush=True)

    def close(self) -> None:
        """Ends all connections."""
        self.server.stop()


def address(config: ConsoleConfig) -> Address:
    """Where a console listens.

    Raises:
        OSError: This machine has no address that others could reach.
    """
    own = ("127.0.0.1", "localhost")
    if not config.lan:
        return Address(own[0], config.port, own)
    names = addresses()
    if not names:
        raise OSError("this machine has no address but its own; connect it, or do without lan")
    home = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"))
    certificate, key = ensure(home / "vla", [*names, *own])
    print(f"Browsers warn once of this certificate; its SHA-256 is {fingerprint(certificate)}")
    return Address("0.0.0.0", config.port, (*names, *own), certificate, key)


def main() -> int:
    """Runs the node."""
    return run(ConsoleNode)


if __name__ == "__main__":
    sys.exit(main())
