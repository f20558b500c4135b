# SPDX-License-Identifier: Apache-2.0
"""How long the executor of policy_node is kept from its callbacks, under the load of two cameras.

The node is the real one and has its images (640 x 480, 30 Hz each) and joint states (100 Hz) over
DDS from other processes, and readers of its chunks and features. A timer in its executor says how
long nothing else could run. The policy is a small π0 whose chunks and features have a full-size
one's shapes.

The node is a process of its own: ``python -m vla_nodes.benches.executor SECONDS``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import rclpy
import torch
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String

from vla_msgs.msg import ActionChunk as ChunkMessage
from vla_msgs.msg import PolicyFeatures
from vla_nodes.benches.load import camera_names
from vla_nodes.benches.messages import FEATURES
from vla_nodes.configs import PolicyConfig
from vla_nodes.inference.worker import Assignment
from vla_nodes.node_tools import RELIABLE
from vla_nodes.policy_node import SWITCH_INTERVAL, PolicyNode
from vla_policy import interface
from vla_policy.bench.policy import INSTRUCTION, make_policy, random_network, reduced_size
from vla_policy.memory import keep_memory
from vla_policy.pi0.policy import Pi0Policy
from vla_policy.types import ActionChunk, PolicyError, RobotState
from vla_sim import robots

_TICK = 0.002  # s
_SPELL = 0.5  # s, in turns with and without inference
_CHUNK_STEPS = 4  # of 0.05 s between inferences: five a second
_WAIT = 60.0  # s


def run(seconds: float, environment: Mapping[str, str], domain: int) -> dict[str, float]:
    """Measures; see ``docs/benchmarks.md`` for the names of the figures.

    Args:
        seconds: With inference, and as long without.
        environment: Of the processes.
        domain: DDS domain, one that nobody else uses.

    Raises:
        PolicyError: If a process fails.
    """
    environment = {**environment, "ROS_DOMAIN_ID": str(domain)}
    loads = [["cameras", "30", "2", "640"], ["joints", "100", "1", "0"]]
    commands = [[f"{__package__}.executor", str(seconds)]]
    # They go on until they are ended.
    commands += [[f"{__package__}.load", kind, rate, "3600", *more] for kind, rate, *more in loads]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, env=environment
        )
        for command in commands
    ]
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    readers = SingleThreadedExecutor(context=context)
    try:
        readers.add_node(_reader(context))
        threading.Thread(target=readers.spin, daemon=True).start()
        told, _ = processes[0].communicate(timeout=2.0 * seconds + 2.0 * _WAIT)
    except subprocess.TimeoutExpired:
        raise PolicyError("the node of the executor's measurement does not end") from None
    finally:
        for process in processes:
            process.kill()
            process.wait()
        readers.shutdown(timeout_sec=5.0)
        rclpy.shutdown(context=context)
    if processes[0].returncode:
        raise PolicyError("the node of the executor's measurement has failed")
    return dict(json.loads(told))


def _reader(context: Context) -> Node:
    """Takes chunks and features, as supervisor and failure detector do."""
    node = Node("reader", context=context)
    for kind, topic in ((ChunkMessage, "action_chunk"), (PolicyFeatures, "features")):
        node.create_subscription(kind, f"policy/{topic}", lambda _: None, RELIABLE, raw=True)
    return node


class _FullSizeChunks(Pi0Policy):
    """A small network; features as a full-size one's."""

    def act(
        self, context: interface.Context, state: RobotState, guidance: Any = None
    ) -> ActionChunk:
        chunk = super().act(context, state, guidance)
        return replace(chunk, features=np.zeros(FEATURES, dtype=np.float32))


def _make_policy(config: PolicyConfig) -> Pi0Policy:
    policy = make_policy(
        random_network(replace(reduced_size(), cameras=2), "cpu", torch.float32),
        "cpu",
        _FullSizeChunks,
    )
    policy.spec = replace(
        policy.spec,
        cameras=tuple(camera_names(2)),
        joint_names=config.joint_names,
        execute_steps=_CHUNK_STEPS,
    )
    return policy


class _Watch:
    """How late a timer of the node's executor is called, ms: while it infers, and while not.

    With each lateness stands what of it the thread did not wait for a core, as the system tells.
    """

    def __init__(self, node: PolicyNode) -> None:
        self.late: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        self.infers = False
        self._last = (0.0, 0.0)
        self._queued: int | None = None  # file; it must be opened by the thread that it is about
        self._timer = node.create_timer(_TICK, self._tick)

    def _tick(self) -> None:
        if self._queued is None:
            self._queued = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        now = time.perf_counter(), 1e-9 * int(os.pread(self._queued, 100, 0).split()[1])
        if self._last[0]:
            late = now[0] - self._last[0] - _TICK
            blocked = late - (now[1] - self._last[1])
            self.late[self.infers].append((1e3 * max(late, 0.0), 1e3 * max(blocked, 0.0)))
        self._last = now


def main() -> int:
    """Runs the node and prints its figures as JSON."""
    seconds = float(sys.argv[1])
    keep_memory()  # as the node's own start
    sys.setswitchinterval(SWITCH_INTERVAL)
    torch.set_num_threads(1)
    rclpy.init()
    node = PolicyNode(_make_policy)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.trigger_configure()
    node.trigger_activate()
    node._on_description(String(data=robots.get("panda").description().urdf_xml))
    thread = node._thread
    if thread is None:
        return 1
    watch = _Watch(node)
    threading.Thread(target=executor.spin, daemon=True).start()
    _assign(thread, grant=1, active=True)
    deadline = time.monotonic() + _WAIT
    while thread.statistics.inferences < 3:
        if time.monotonic() > deadline:
            print(f"no inference: {thread.statistics.blocked_now}", file=sys.stderr)
            return 1
        time.sleep(0.05)
    for one in watch.late.values():
        one.clear()
    before = thread.statistics.inferences
    for turn in range(max(1, round(seconds / _SPELL))):
        for infers in (True, False):
            _assign(thread, grant=2 + turn, active=infers)
            watch.infers = infers
            time.sleep(_SPELL)
    executor.shutdown(timeout_sec=5.0)
    figures = {"executor_inferences_count": float(thread.statistics.inferences - before)}
    for suffix, infers in (("", True), ("_alone", False)):
        for name, late in zip(("gap", "blocked"), np.array(watch.late[infers]).T, strict=True):
            for percentile in (50, 99):
                value = float(np.percentile(late, percentile))
                figures[f"executor_{name}{suffix}_p{percentile}_ms"] = value
            figures[f"executor_{name}{suffix}_max_ms"] = float(late.max())
            figures[f"executor_{name}{suffix}_over_5_ms_share"] = float(np.mean(late > 5.0))
    print(json.dumps(figures))
    node.close()
    rclpy.try_shutdown()
    return 0


def _assign(thread: Any, *, grant: int, active: bool) -> None:
    thread.assign(Assignment(active, INSTRUCTION, 1, 0, (1, grant)))


if __name__ == "__main__":
    sys.exit(main())
