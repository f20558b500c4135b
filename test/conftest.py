# SPDX-License-Identifier: Apache-2.0
"""One running system for the tests of the closed loop, in a domain of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Domain ids whose ports lie below those that the system hands out to anybody who asks.
FIRST_DOMAIN, DOMAINS = 10, 90


@pytest.fixture(scope="session")
def domain() -> int:
    """A domain that no other process uses, as far as can be told."""
    # Far from that of the environment, in which make test lets the other tests of the step run.
    around = int(os.environ.get("ROS_DOMAIN_ID", os.getpid()))
    return FIRST_DOMAIN + (around - FIRST_DOMAIN + DOMAINS // 2) % DOMAINS


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory, domain: int) -> Iterator[object]:
    """A running system whose policy traces a circle, and a node that watches it."""
    import rclpy
    from closed_loop import Running, Watcher, write_video
    from rclpy.context import Context

    from vla_nodes.system.description import load_system, prepared

    folder = tmp_path_factory.mktemp("circle")
    write_video(folder / "scene.avi")
    system = prepared(
        load_system(str(Path(__file__).parent / "circle_system")),
        record=folder / "bags",
        overrides={"camera_node": {"device": str(folder / "scene.avi")}},
    )
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    running = Running(system, folder / "processes.log", domain)
    try:
        watcher = Watcher(context)
        watcher.wait_until_ready()
        watcher.bags = folder / "bags"
        watcher.system = running
        yield watcher
    finally:
        running.close()
        rclpy.shutdown(context=context)
        print(running.log.read_text(encoding="utf-8"))
