# SPDX-License-Identifier: Apache-2.0
"""What benches record or infer from: cameras of moving noise, controller or joint states.

A process of its own, which publishes at a true rate:
``python -m vla_nodes.benches.load cameras|states|joints RATE SECONDS COUNT WIDTH``.
It waits for a subscription on every topic, publishes exactly ``RATE * SECONDS`` messages on each
and prints, as JSON, when it begins and, at the end, how late the latest was.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.serialization import serialize_message
from rosbags.serde import SerdeError
from sensor_msgs.msg import Image, JointState

from vla_data.definitions import Definitions
from vla_data.noise import NoiseImages, stamped
from vla_msgs.msg import ControllerState
from vla_nodes import convert
from vla_nodes.configs import PolicyConfig
from vla_nodes.node_tools import IMAGES, RELIABLE
from vla_nodes.parameters import defaults, from_mapping

JOINTS_TOPIC = "/joint_states"
STATES_TOPIC = "/controller/state"
WAIT = 60.0  # s for the recorder to subscribe


def camera_names(count: int) -> list[str]:
    """Names of some cameras."""
    return [f"noise_{number}" for number in range(count)]


def camera_topics(count: int) -> list[str]:
    """Their topics."""
    return [f"/cameras/{name}/image_raw" for name in camera_names(count)]


def controller_states(
    base_frame: str = "base",
    tool_frame: str = "tool",
    joint_names: Sequence[str] = tuple(f"joint{i}" for i in range(7)),
    count: int = 64,
) -> list[bytes]:
    """Serialised states with random values of seven joints."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        state = ControllerState(tool_frame=tool_frame, joint_names=joint_names)
        state.header.frame_id = base_frame
        for name in ("q", "dq", "tau_command", "tau_limit"):
            setattr(state, name, rng.normal(size=7).tolist())
        made.append(state)
    length = len(wire(made[0]))
    return [bytes(serialize_message(state)[:length]) for state in made]


def wire(message: Any) -> bytes:
    """A message as the middleware sends it.

    ``serialize_message`` leaves some bytes behind it that are not sent.

    Raises:
        ValueError: If its class is not what its definition says.
    """
    package, folder, _ = type(message).__module__.split(".", 2)
    kind = f"{package}/{folder}/{type(message).__name__}"
    data = bytes(serialize_message(message))
    for slack in range(64):
        with suppress(SerdeError):
            _store(kind).deserialize_cdr(data[: len(data) - slack], kind)
            return data[: len(data) - slack]
    raise ValueError(f"{kind} is not what its definition says; build the workspace")


@functools.cache
def _store(kind: str) -> Any:
    return Definitions().typestore([kind])


def joint_state(stamp_ns: int) -> JointState:
    """The joints that policy_node expects by default, at rest."""
    config = from_mapping(PolicyConfig, defaults("policy_node"))
    names = [*config.joint_names, *config.finger_joint_names]
    zeros = [0.0] * len(names)
    return convert.to_joint_state(stamp_ns, names, zeros, zeros)


def publish(
    publishers: list[Publisher], make: Callable[[int, int], bytes], rate: float, count: int
) -> float:
    """Publishes at a rate; what is late is sent at once. Returns how late the latest was, s."""
    late = 0.0
    began = time.monotonic() + 0.1
    for number in range(count):
        for order, publisher in enumerate(publishers):
            # Cameras do not all expose at the same moment.
            due = began + (number + order / len(publishers)) / rate
            left = due - time.monotonic()
            if left > 0.0:
                time.sleep(left)
            late = max(late, -left)
            publisher.publish(make(number + 7 * order, time.time_ns()))
    return late


def main() -> int:
    """Runs one of the loads."""
    kind, rate, seconds, count, width = sys.argv[1], *(float(value) for value in sys.argv[2:6])
    rclpy.init()
    node = Node(f"load_{kind}")
    if kind == "cameras":
        images = NoiseImages(Definitions(), int(width), int(width) * 3 // 4)
        topics = camera_topics(int(count))
        publishers = [node.create_publisher(Image, topic, IMAGES) for topic in topics]
        make = images.message
    elif kind == "joints":
        publishers = [node.create_publisher(JointState, JOINTS_TOPIC, RELIABLE)]
        at_rest = serialize_message(joint_state(0))

        def make(number: int, stamp_ns: int) -> bytes:
            return stamped(at_rest, stamp_ns)

    else:
        states = controller_states()
        publishers = [node.create_publisher(ControllerState, STATES_TOPIC, RELIABLE)]

        def make(number: int, stamp_ns: int) -> bytes:
            return stamped(states[number % len(states)], stamp_ns)

    deadline = time.monotonic() + WAIT
    while not all(publisher.get_subscription_count() for publisher in publishers):
        if time.monotonic() > deadline:
            print(f"load: nobody subscribes within {WAIT:g} s", file=sys.stderr)
            return 1
        time.sleep(0.02)
    print(json.dumps({"began": True}), flush=True)
    messages = round(rate * seconds)
    late = publish(publishers, make, rate, messages)
    # Reliable delivery needs the publisher to stay until all has arrived.
    arrived = all(publisher.wait_for_all_acked(Duration(seconds=WAIT)) for publisher in publishers)
    print(json.dumps({"arrived": arrived, "late_s": late}), flush=True)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
