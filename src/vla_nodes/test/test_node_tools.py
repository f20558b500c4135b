# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

BUSY = """
import sys, time
from rclpy.node import Node
from vla_nodes.node_tools import run

class Busy(Node):
    def __init__(self):
        super().__init__("busy")
        self.create_timer(0.1, self.work)

    def work(self):
        print("works", flush=True)
        time.sleep(float(sys.argv[1]))

    def close(self):
        print("closed", flush=True)

sys.exit(run(Busy))
"""


@pytest.mark.parametrize(("duration", "cut"), [(0.2, False), (90.0, True)])
def test_a_callback_that_does_not_return_keeps_no_node_alive(duration: float, cut: bool) -> None:
    node = subprocess.Popen(
        [sys.executable, "-c", BUSY, str(duration)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert node.stdout is not None
    assert node.stdout.readline() == "works\n"
    asked = time.monotonic()
    node.send_signal(signal.SIGINT)
    told, errors = node.communicate(timeout=80.0)
    assert node.returncode == 0
    assert "closed" in told
    assert ("in the middle of a callback" in errors) is cut
    assert time.monotonic() - asked < 60.0
