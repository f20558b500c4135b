# SPDX-License-Identifier: Apache-2.0
"""A recorded episode once more: its chunks through the controller, or its pictures to a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import vla_control
from vla_data.contract import ObservationContract
from vla_data.episode_reader import EpisodeReader
from vla_data.lerobot.staging import kinematics
from vla_data.rows import (
    CHUNK_TOPIC,
    CONTROLLER_TOPIC,
    OWNER_TOPIC,
    chunk_values,
    common_rate,
    episode_span,
    pose_vector,
    read_rows,
    survey,
)
from vla_data.synchronisation import NS_PER_S
from vla_nodes import convert
from vla_sim import robots
from vla_sim.simulation import Simulation

COMMAND_TOPIC = "controller/action_chunk"
TASK_TOPIC = "task/status"
HEARTBEAT_TIMEOUT = 0.5  # s, as the node of the simulation has it
START_TOLERANCE = 5e-3  # m, between where the arm was and where the simulated one begins

Progress = Callable[[float], None]


class ReplayError(ValueError):
    """An episode cannot be replayed."""


@dataclass(frozen=True)
class ControlReplay:
    """How far a simulated arm was from the recorded one.

    Attributes:
        times: (N,) s since the start of the episode.
        distances: (N,) between the two tools, m.
        chunks: Offered to the controller.
        rejected: Of these, by reason.
        success: What the simulation's judge says of the replay.
    """

    times: np.ndarray
    distances: np.ndarray
    chunks: int
    rejected: Mapping[str, int]
    success: bool


@dataclass(frozen=True)
class PolicyReplay:
    """How far a policy's chunks are from those that were recorded.

    Attributes:
        stamps_ns: (N,) of the observations.
        differences: (N,) mean over the steps of the distance between commanded positions, m.
        openings: (N,) the same of the gripper's opening, m.
    """

    stamps_ns: np.ndarray
    differences: np.ndarray
    openings: np.ndarray


def replay_control(
    bag: Path, progress: Progress = lambda share: None, suite: str | None = None
) -> ControlReplay:
    """Runs the chunks that the controller was given through the controller, in lockstep.

    The scene is laid as it was; nothing looks at it. Chunks and heartbeats come when they came.

    Args:
        bag: Of a simulated episode.
        progress: Called with the share that is done.
        suite: That its scene was drawn for, see ``vla_sim.suites``; by default what the bag says.

    Raises:
        EpisodeReadError: The bag is damaged or lacks a topic.
        SuiteError: There is no such suite.
        ReplayError: The arm is not a simulated one, or did not begin where a scene begins.
    """
    with EpisodeReader(bag) as reader:
        info = reader.info
        topics = {reader.find_topic(t): t for t in (COMMAND_TOPIC, OWNER_TOPIC, CONTROLLER_TOPIC)}
        first = next(iter(reader.messages([reader.find_topic(CONTROLLER_TOPIC)]))).message
        robot = _robot(list(first.joint_names))
        if not info.task or info.seed is None:
            raise ReplayError(f"{bag} does not say which simulated scene it was recorded in")
        simulation = Simulation(
            robot,
            info.task,
            info.seed,
            cameras=(),
            suite=suite or drawn_suite(reader),
            controller_overrides={
                "heartbeat_timeout_s": HEARTBEAT_TIMEOUT,
                "chunk__accept_joint_positions": True,
            },
        )
        try:
            return _run(reader, simulation, topics, progress)
        finally:
            simulation.close()


def drawn_suite(reader: EpisodeReader) -> str:
    """The suite that an episode's scene was drawn for, as the simulator said.

    Raises:
        EpisodeReadError: The simulator is not in the bag.
        ReplayError: It did not say.
    """
    scene = (reader.info.task, reader.info.seed)
    for each in reader.messages([reader.find_topic(TASK_TOPIC)]):
        # Not in bags of earlier versions.
        suite = getattr(each.message, "suite", "")
        if suite and (each.message.task, each.message.seed) == scene:
            return str(suite)
    raise ReplayError(f"{reader.path} does not say how its scene was drawn; name the suite")


def _robot(joint_names: list[str]) -> str:
    for name in robots.names():
        if list(robots.get(name).joint_names) == joint_names:
            return name
    raise ReplayError(
        f"no simulated arm has the joints {', '.join(joint_names)}; there are "
        f"{', '.join(robots.names())}"
    )


def _run(
    reader: EpisodeReader, simulation: Simulation, topics: Mapping[str, str], progress: Progress
) -> ControlReplay:
    # What was recorded before the episode's START was of another scene.
    origin, end_ns = episode_span(reader)
    length = max(1, end_ns - origin)
    frames = {
        "base_frame": simulation.robot.base_frame,
        "tool_frame": simulation.robot.tool_frame,
    }
    times: list[float] = []
    distances: list[float] = []
    rejected: dict[str, int] = {}
    chunks = 0
    for each in reader.messages(list(topics), origin):
        message, topic = each.message, topics[each.topic]
        stamp_ns = convert.from_time(message.header.stamp) - origin
        now_ns = stamp_ns if topic == CONTROLLER_TOPIC else each.log_ns - origin
        simulation.advance(max(0, now_ns - simulation.time_ns) / NS_PER_S)
        if topic == OWNER_TOPIC:
            convert.pass_heartbeat(message, simulation.controller, simulation.time_ns)
        elif topic == COMMAND_TOPIC:
            chunk = convert.from_action_chunk(message, **frames)
            chunk.stamp_ns = stamp_ns
            chunks += 1
            reason = simulation.push_chunk(chunk)
            if reason != vla_control.RejectReason.NONE:
                rejected[reason.name] = rejected.get(reason.name, 0) + 1
        elif now_ns >= 0:
            recorded = pose_vector(message.pose_tool_in_base)[:3]
            distance = float(np.linalg.norm(simulation.observe_pose()[:3, 3] - recorded))
            if not times and distance > START_TOLERANCE:
                raise ReplayError(
                    f"the arm began {1e3 * distance:.0f} mm from where the scene begins; only an "
                    "episode recorded from its start can be replayed"
                )
            times.append(now_ns / NS_PER_S)
            distances.append(distance)
            progress(now_ns / length)
    success = bool(simulation.judge().success)
    return ControlReplay(np.array(times), np.array(distances), chunks, rejected, success)


def replay_policy(
    bag: Path, contract: ObservationContract, policy: Any, progress: Progress = lambda share: None
) -> PolicyReplay:
    """Runs a policy on the recorded pictures and compares its chunks with the recorded ones.

    Args:
        bag: The episode.
        contract: Of the robot.
        policy: A ``vla_policy.Policy`` that commands poses.
        progress: Called with the share that is done.

    Raises:
        EpisodeReadError or ObservationError: The bag is damaged or lacks something.
        ReplayError: No chunk of poses of a policy was recorded.
    """
    with EpisodeReader(bag) as reader:
        found = survey(reader, contract)
        if found.chunk is None:
            raise ReplayError(f"{bag} holds no chunks of a policy")
        recorded = {
            convert.from_time(each.message.header.stamp): (
                chunk_values(each.message),
                int(each.message.inference_id),
            )
            for each in reader.messages([reader.find_topic(CHUNK_TOPIC)])
            if each.message.mode == vla_control.ChunkMode.POSE
        }
        stamps, differences, openings = [], [], []
        forward = kinematics(found.description, contract)
        rate = common_rate([found])
        for number, row in enumerate(read_rows(reader, contract, found, rate, forward)):
            progress(min(1.0, number * NS_PER_S / rate / (found.owned_ns[1] - found.owned_ns[0])))
            if row.observation.stamp_ns not in recorded:
                continue
            values, inference_id = recorded[row.observation.stamp_ns]
            # The sampler's noise is a function of the seed and of the inference's number.
            context = replace(policy.encode(row.observation), inference_id=inference_id)
            chunk = policy.act(context, row.observation)
            steps = min(len(values), len(chunk.commanded))
            mine = chunk.poses_tool_in_base[:steps, :3, 3]
            stamps.append(row.observation.stamp_ns)
            differences.append(np.linalg.norm(mine - values[:steps, :3], axis=1).mean())
            openings.append(np.abs(chunk.gripper_opening[:steps] - values[:steps, 7]).mean())
    if not stamps:
        raise ReplayError(f"{bag} holds no chunk of poses whose observation is in it too")
    return PolicyReplay(np.array(stamps), np.array(differences), np.array(openings))
