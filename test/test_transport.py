# SPDX-License-Identifier: Apache-2.0
"""Camera images cross processes whole under the profile in config/fastdds.xml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

FRAMES = 60
PERIOD = 1 / 30  # s

PUBLISHER = f"""
import array, time
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node("images_out")
publisher = node.create_publisher(Image, "image", qos_profile_sensor_data)
image = Image(height=480, width=640, encoding="rgb8", step=640 * 3)
image.data = array.array("B")
image.data.frombytes(bytes(480 * 640 * 3))
deadline = time.monotonic() + 20.0
while publisher.get_subscription_count() == 0 and time.monotonic() < deadline:
    time.sleep(0.02)
time.sleep(1.0)  # the other end may learn of it later
for index in range({FRAMES}):
    image.header.stamp.sec = index
    publisher.publish(image)
    time.sleep({PERIOD})
time.sleep(0.5)
rclpy.shutdown()
"""

SUBSCRIBER = f"""
import json, time
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node("images_in")
stamps = []
def store(image):
    stamps.append(image.header.stamp.sec)
node.create_subscription(Image, "image", store, qos_profile_sensor_data)
deadline = time.monotonic() + 30.0
while len(stamps) < {FRAMES} and time.monotonic() < deadline:
    rclpy.spin_once(node, timeout_sec=0.2)
    if stamps and stamps[-1] == {FRAMES} - 1:
        break
print(json.dumps(stamps))
rclpy.shutdown()
"""


SOCKETS = """
import json, os
import rclpy

rclpy.init()
node = rclpy.create_node("sockets")  # its sockets close with the last reference
links = []
for descriptor in os.listdir("/proc/self/fd"):
    try:
        links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    except FileNotFoundError:
        pass  # the listing's own
inodes = {link[len("socket:["):-1] for link in links if link.startswith("socket:[")}
rows = [row.split() for row in open("/proc/self/net/udp").read().splitlines()[1:]]
print(json.dumps([row[1].split(":") for row in rows if row[9] in inodes]))
rclpy.shutdown()
"""


def domain() -> int:
    """A domain id that is unlikely to be in use."""
    return 10 + (os.getpid() + time.monotonic_ns() // 1000) % 90


def environment(**variables: str) -> dict[str, str]:
    """This environment in a domain of its own."""
    return {**os.environ, "ROS_DOMAIN_ID": str(domain()), **variables}


def received(variables: dict[str, str]) -> list[int]:
    """Numbers of the best-effort images that arrived in another process."""
    subscriber = subprocess.Popen(
        [sys.executable, "-c", SUBSCRIBER], env=variables, stdout=subprocess.PIPE, text=True
    )
    publisher = subprocess.Popen([sys.executable, "-c", PUBLISHER], env=variables)
    try:
        output, _ = subscriber.communicate(timeout=60)
        assert publisher.wait(timeout=30) == 0
    finally:
        for process in (subscriber, publisher):
            process.kill()
            process.wait()
    return list(json.loads(output))


def reachable_ports(variables: dict[str, str]) -> list[int]:
    """DDS ports of a node that listen on more than the loopback address."""
    run = subprocess.run(
        [sys.executable, "-c", SOCKETS],
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=True,
    )
    # The RTPS specification's mapping of domains to ports.
    first = 7400 + 250 * int(variables["ROS_DOMAIN_ID"])
    bound = [(address, int(port, 16)) for address, port in json.loads(run.stdout)]
    return [p for address, p in bound if address != "0100007F" and first <= p < first + 250]


def test_best_effort_images_arrive() -> None:
    stamps = received(environment())
    # Frames before the match of both ends may be lost; from the first one on, none.
    assert len(stamps) >= FRAMES - 2
    assert stamps == list(range(stamps[0], FRAMES))


def test_nodes_listen_on_this_machine_alone() -> None:
    assert reachable_ports(environment()) == []


def test_listening_elsewhere_would_be_seen() -> None:
    variables = environment(ROS_AUTOMATIC_DISCOVERY_RANGE="SUBNET")
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        variables.pop(name, None)
    assert reachable_ports(variables) != []
