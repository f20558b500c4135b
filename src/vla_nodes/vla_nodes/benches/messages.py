# SPDX-License-Identifier: Apache-2.0
"""What the runtime itself costs: from camera messages to tensors, from a chunk to the controller.

The ways begin and end with serialized messages, as DDS hands them over, and leave DDS itself and
the policy out. A chunk's features go to the failure detector, behind the chunk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image, JointState

from vla_failure.binding import Binding
from vla_msgs.msg import ActionChunk
from vla_nodes import convert
from vla_nodes.configs import PolicyConfig
from vla_nodes.convert.failure import to_policy_features
from vla_nodes.inference.setup import make_contract
from vla_nodes.parameters import defaults, from_mapping
from vla_policy import RobotState
from vla_policy.bench.policy import make_observation, make_policy, random_network, reduced_size
from vla_policy.memory import keep_memory
from vla_policy.policy import NetworkPolicy
from vla_policy.types import ActionChunk as PolicyChunk

_HEIGHT, _WIDTH = 480, 640
_STAMP = 1_000_000_000
FEATURES = (10, 50, 1024)  # of a full-size π0


def run(rounds: int) -> dict[str, float]:
    """Times of both ways, p50 and p99 in ms; see ``docs/benchmarks.md``."""
    keep_memory()  # as the node does
    shape = replace(reduced_size(), cameras=2)
    policy = make_policy(random_network(shape, "cpu", torch.float32), "cpu")
    chunk = _full_size_chunk(policy)
    figures: dict[str, float] = {}
    ways = {
        "camera_to_tensor_2x640x480": _camera_to_tensor(policy),
        "camera_callback_640x480": _camera_callback(),
        "chunk_to_controller": _chunk_to_controller(chunk, policy),
        "features_to_message": _features_to_message(chunk, policy),
    }
    for name, way in ways.items():
        figures.update(_percentiles(name, _times(way, rounds)))
    return figures


def _image(camera: int) -> Image:
    rng = np.random.default_rng(camera)
    pixels = rng.integers(0, 256, (_HEIGHT, _WIDTH, 3), dtype=np.uint8)
    return convert.to_image(_STAMP, f"camera{camera}", pixels)


def _camera_to_tensor(policy: NetworkPolicy) -> Callable[[], object]:
    """Two pictures and a joint state as messages, to what the network reads."""
    spec = policy.spec
    config = from_mapping(
        PolicyConfig,
        {**defaults("policy_node"), "joint_names": list(spec.joint_names)},
    )
    contract = make_contract(config, spec)
    names = [*spec.joint_names, *config.finger_joint_names]
    zeros = [0.0] * len(names)
    joints = serialize_message(convert.to_joint_state(_STAMP, names, zeros, zeros))
    pictures = {
        contract.cameras[name].topic: serialize_message(_image(index))
        for index, name in enumerate(spec.cameras)
    }
    identity = np.eye(4)

    def way() -> object:
        signals = contract.signals()
        for topic, picture in pictures.items():
            signals[topic].append(_STAMP, deserialize_message(picture, Image))
        signals[contract.joints.topic].append(_STAMP, deserialize_message(joints, JointState))
        observation = contract.build(signals, _STAMP, lambda q: identity, "pick up the red cube")
        return policy.read([observation])

    return way


def _camera_callback() -> Callable[[], object]:
    """What the executor does with one picture: it takes the message and keeps it."""
    picture = serialize_message(_image(0))
    return lambda: deserialize_message(picture, Image)


def _chunk_to_controller(chunk: PolicyChunk, policy: NetworkPolicy) -> Callable[[], object]:
    """A chunk to a message, and that to the controller's own."""

    def way() -> object:
        message = _to_message(chunk, policy)
        taken = deserialize_message(serialize_message(message), ActionChunk)
        return convert.from_action_chunk(taken, base_frame="base", tool_frame="tool")

    return way


def _features_to_message(chunk: PolicyChunk, policy: NetworkPolicy) -> Callable[[], object]:
    """The features of a chunk to a message, which is sent behind the chunk's."""
    message, state = _to_message(chunk, policy), make_observation(policy.spec)

    def way() -> object:
        features = to_policy_features(
            chunk,
            message,
            state=state,
            running=Binding.of(policy.spec),
            encode_latency=0.0,
            act_latency=0.0,
        )
        return serialize_message(features)

    return way


def _full_size_chunk(policy: NetworkPolicy) -> PolicyChunk:
    """A chunk with as many features as a full-size π0 has."""
    observation = make_observation(policy.spec)
    small = policy.act(policy.encode(observation), RobotState.of(observation))
    return replace(small, features=np.zeros(FEATURES, dtype=np.float32))


def _to_message(chunk: PolicyChunk, policy: NetworkPolicy) -> ActionChunk:
    return convert.to_action_chunk(
        chunk,
        base_frame="base",
        tool_frame="tool",
        joint_names=policy.spec.joint_names,
        sequence=1,
        instruction_id=1,
    )


def _times(way: Callable[[], object], rounds: int) -> np.ndarray:
    taken = np.empty(rounds)
    for number in range(-3, rounds):
        began = time.perf_counter()
        way()
        taken[max(number, 0)] = 1e3 * (time.perf_counter() - began)
    return taken


def _percentiles(name: str, times: np.ndarray) -> dict[str, float]:
    return {f"{name}_p{p}_ms": float(np.percentile(times, p)) for p in (50, 99)}
