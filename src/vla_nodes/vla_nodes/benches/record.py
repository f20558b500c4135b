# SPDX-License-Identifier: Apache-2.0
"""The real recorder under a load of camera images and controller states, over DDS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.node import Node

from vla_data import EpisodeReader
from vla_data.image_compression import FORMATS
from vla_msgs.msg import EpisodeEvent, Outcome
from vla_nodes.benches.load import STATES_TOPIC, camera_topics
from vla_nodes.node_tools import RELIABLE, spin_aside
from vla_nodes.system.description import yaml_value

EPISODE = "bench"
LOG = "recorder.log"
TAIL = 2.0  # s, in which the recorder takes what has arrived at the end
SOON = 60.0  # s for anything that takes no longer on a machine that is busy


class RecordBenchError(RuntimeError):
    """The bench could not be run to its end."""


@dataclass(frozen=True)
class Load:
    """What is recorded.

    Attributes:
        seconds: How long.
        cameras: How many, of 4:3.
        width: Columns of their images.
        camera_rate: Hz.
        state_rate: Hz.
    """

    seconds: float = 60.0
    cameras: int = 4
    width: int = 640
    camera_rate: float = 30.0
    state_rate: float = 1000.0

    @property
    def topics(self) -> dict[str, int]:
        """Messages that are published by topic."""
        images = round(self.camera_rate * self.seconds)
        states = round(self.state_rate * self.seconds)
        return {**dict.fromkeys(camera_topics(self.cameras), images), STATES_TOPIC: states}


class _Director(Node):
    """Starts and ends the episode, as the supervisor does."""

    def __init__(self, context: Context) -> None:
        super().__init__("bench_director", context=context)
        self.answers: list[EpisodeEvent] = []
        self._events = self.create_publisher(EpisodeEvent, "episode/events", RELIABLE)
        self.create_subscription(EpisodeEvent, "episode/events", self.answers.append, RELIABLE)
        spin_aside(self)

    def tell(self, event: int, outcome: int = Outcome.UNKNOWN) -> None:
        """Publishes an event of the episode."""
        message = EpisodeEvent(event=event, episode_id=EPISODE, task="bench")
        message.header.stamp = self.get_clock().now().to_msg()
        message.outcome.outcome = outcome
        self._events.publish(message)

    def start(self, processes: list[subprocess.Popen[str]]) -> None:
        """Starts the episode and waits until it is recorded, while the processes live."""
        again = 0.0

        def recording() -> bool:
            nonlocal again
            if time.monotonic() > again:  # the first may be sent before the recorder listens
                again = time.monotonic() + 1.0
                self.tell(EpisodeEvent.START)
            if any(process.poll() is not None for process in processes):
                raise RecordBenchError("the recorder or its manager has ended")
            return any(answer.event == EpisodeEvent.RECORDING for answer in self.answers)

        wait("the bag", recording)


def wait(what: str, predicate: Callable[[], Any], timeout: float = SOON) -> None:
    """Waits until a predicate is true.

    Raises:
        RecordBenchError: It is not within ``timeout`` s.
    """
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise RecordBenchError(f"{what}: not within {timeout:g} s")
        time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has taken, s."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid: int) -> int:
    """Largest resident memory that a process has had, without what it shares with others."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RecordBenchError(f"process {pid} does not tell its memory")


def run(
    load: Load,
    folder: Path,
    environment: Mapping[str, str],
    domain: int,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Records one episode and measures.

    Args:
        load: What is recorded.
        folder: Receives the bag.
        environment: Of the processes.
        domain: DDS domain, one that nobody else uses.
        parameters: More of the recorder's.

    Returns:
        Figures; see ``docs/benchmarks.md``.

    Raises:
        RecordBenchError: It could not be run to its end.
    """
    environment = {**environment, "ROS_DOMAIN_ID": str(domain)}
    values = {
        "directory": str(folder),
        "required_topics": [""],
        "tail": TAIL,
        **(parameters or {}),
    }
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    running: list[subprocess.Popen[str]] = []
    try:
        director = _Director(context)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOG).open("w", encoding="utf-8") as log:
            for name, parameters_of in (
                ("recorder_node", values),
                ("lifecycle_manager", {"node_names": ["/recorder"]}),
            ):
                command = [sys.executable, "-m", f"vla_nodes.{name}", "--ros-args"]
                for key, value in parameters_of.items():
                    command += ["-p", f"{key}:={yaml_value(value)}"]
                running.append(subprocess.Popen(command, env=environment, text=True, stderr=log))
        recorder = running[0]
        director.start(running)
        return _measure(load, folder, director, recorder, running, environment)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(20.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        rclpy.shutdown(context=context)


def _measure(
    load: Load,
    folder: Path,
    director: _Director,
    recorder: subprocess.Popen[str],
    running: list[subprocess.Popen[str]],
    environment: Mapping[str, str],
) -> dict[str, float]:
    publishers = []
    for kind, rate, count in (
        ("cameras", load.camera_rate, load.cameras),
        ("states", load.state_rate, 1),
    ):
        arguments = [kind, *(str(v) for v in (rate, load.seconds, count, load.width))]
        process = subprocess.Popen(
            [sys.executable, "-m", "vla_nodes.benches.load", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        publishers.append(process)
        running.append(process)
    for process in publishers:
        _line(process)
    began, used = time.monotonic(), cpu_seconds(recorder.pid)
    told = [_line(process) for process in publishers]
    took, used = time.monotonic() - began, cpu_seconds(recorder.pid) - used
    director.tell(EpisodeEvent.END, Outcome.SUCCESS)
    bag = Path(next(one.text for one in director.answers if one.event == EpisodeEvent.RECORDING))
    wait("the end of the bag", lambda: (bag / "metadata.yaml").is_file())
    with EpisodeReader(bag) as reader:
        counts = {published_topic(topic.name): topic.count for topic in reader.topics.values()}
        drops = {published_topic(name): count for name, count in (reader.drops or {}).items()}
        size = reader.size_bytes
    published = load.topics
    return {
        "drops_count": sum(n - counts.get(topic, 0) for topic, n in published.items()),
        "drops_stated_count": sum(drops.get(topic, 0) for topic in published),
        "messages_count": sum(counts.get(topic, 0) for topic in published),
        "cpu_core_percent": 100.0 * used / took,
        "peak_memory_mb": peak_bytes(recorder.pid) / 1e6,
        "sustained_mb_s": size / took / 1e6,
        "publishers_late_max_ms": 1e3 * max(one["late_s"] for one in told),
        "duration_s": took,
    }


def published_topic(topic: str) -> str:
    """Topic on which that was published which a bag holds on ``topic``, compressed or not."""
    name, _, form = topic.rpartition("/")
    return name if form in FORMATS[1:] else topic


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    if process.stdout is None or not (line := process.stdout.readline()):
        raise RecordBenchError("a publisher has ended before its time")
    return dict(json.loads(line))
