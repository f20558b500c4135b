# SPDX-License-Identifier: Apache-2.0
"""What the controller did in an episode, as arrays over time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_data.episode_reader import EpisodeReader
from vla_data.synchronisation import NS_PER_S, time_ns

CONTROLLER_STATE = "vla_msgs/msg/ControllerState"
PHASES = ("inactive", "holding", "tracking", "braking", "fault")
FAULTS = (
    "none",
    "stop requested",
    "heartbeat lost",
    "chunk timeout",
    "bad joint state",
    "clock jump",
    "numeric",
    "tracking deviation",
    "force sensor",
    "contact force",
)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class PhaseSpan(NamedTuple):
    """A stretch of time in one phase.

    Attributes:
        phase: One of `PHASES`.
        start: s.
        end: s.
    """

    phase: str
    start: float
    end: float


@dataclass(frozen=True)
class ControllerHistory:
    """The states of one controller, in order of their stamps.

    Attributes:
        time: ``(samples,)``, s since the bag's first message.
        phase: ``(samples,)``, index into `PHASES`.
        fault: ``(samples,)``, index into `FAULTS`.
        joint_names: Names of the columns of the torques.
        tau: ``(samples, joints)``, Nm, commanded after all limits.
        tau_limit: ``(samples, joints)``, Nm.
        position: ``(samples, 3)``, m, measured tool point in the base frame.
        reference_position: ``(samples, 3)``, m.
        orientation_error: ``(samples,)``, rad, angle between reference and measured orientation.
        chunk_age: ``(samples,)``, s; negative without a chunk.
        torque_saturated: ``(samples,)``.
        torque_rate_saturated: ``(samples,)``.
        wrench_saturated: ``(samples,)``.
        chunks_accepted: At the end.
        chunks_rejected: At the end.
        base_frame: Frame of the positions.
        tool_frame: Frame whose pose is meant.
    """

    time: Floats
    phase: NDArray[np.int64]
    fault: NDArray[np.int64]
    joint_names: tuple[str, ...]
    tau: Floats
    tau_limit: Floats
    position: Floats
    reference_position: Floats
    orientation_error: Floats
    chunk_age: Floats
    torque_saturated: Flags
    torque_rate_saturated: Flags
    wrench_saturated: Flags
    chunks_accepted: int
    chunks_rejected: int
    base_frame: str
    tool_frame: str

    @property
    def position_error(self) -> Floats:
        """Distance between reference and measured tool point, ``(samples,)``, m."""
        error: Floats = np.linalg.norm(self.reference_position - self.position, axis=1)
        return error

    @property
    def moving(self) -> Flags:
        """Whether the reference was free to move: tracking a chunk, or braking after one."""
        flags: Flags = np.isin(self.phase, (PHASES.index("tracking"), PHASES.index("braking")))
        return flags

    def spans(self) -> Iterator[PhaseSpan]:
        """Yields the phases in order; each ends where the next begins."""
        changes = np.flatnonzero(np.diff(self.phase)) + 1
        edges = [0, *changes.tolist(), len(self.time)]
        for first, after in pairwise(edges):
            end = self.time[after] if after < len(self.time) else self.time[-1]
            name = PHASES[self.phase[first]]
            yield PhaseSpan(name, float(self.time[first]), float(end))


def read_controller_history(reader: EpisodeReader) -> ControllerHistory | None:
    """Reads the states of the first controller in a bag.

    Args:
        reader: The open bag.

    Returns:
        The history, or None if no controller was recorded.
    """
    topics = reader.topics_of_type(CONTROLLER_STATE)
    start_ns = reader.start_ns
    if not topics or start_ns is None:
        return None
    states = [each.message for each in reader.messages(topics[:1])]
    names = list(states[-1].joint_names)
    states = [state for state in states if list(state.joint_names) == names]
    stamps = np.array([time_ns(state.header.stamp) for state in states])
    order = np.argsort(stamps, kind="stable")
    states = [states[index] for index in order]
    poses = [state.pose_tool_in_base for state in states]
    references = [state.reference_pose_tool_in_base for state in states]
    return ControllerHistory(
        time=(stamps[order] - start_ns) / NS_PER_S,
        phase=np.array([min(state.phase, len(PHASES) - 1) for state in states]),
        fault=np.array([min(state.fault, len(FAULTS) - 1) for state in states]),
        joint_names=tuple(names),
        tau=_rows([state.tau_command for state in states], len(names)),
        tau_limit=_rows([state.tau_limit for state in states], len(names)),
        position=_positions(poses),
        reference_position=_positions(references),
        orientation_error=_angles(_quaternions(references), _quaternions(poses)),
        chunk_age=np.array([state.chunk_age for state in states]),
        torque_saturated=np.array([state.torque_saturated for state in states]),
        torque_rate_saturated=np.array([state.torque_rate_saturated for state in states]),
        wrench_saturated=np.array([state.wrench_saturated for state in states]),
        chunks_accepted=int(states[-1].chunks_accepted),
        chunks_rejected=int(states[-1].chunks_rejected),
        base_frame=str(states[-1].header.frame_id),
        tool_frame=str(states[-1].tool_frame),
    )


def _rows(values: list[Any], columns: int) -> Floats:
    """Stacks per-joint arrays; a state that lacks one (inactive) becomes a row of NaN."""
    rows = np.full((len(values), columns), np.nan)
    for row, value in zip(rows, values, strict=True):
        if len(value) == columns:
            row[:] = value
    return rows


def _positions(poses: list[Any]) -> Floats:
    return np.array([(p.position.x, p.position.y, p.position.z) for p in poses], dtype=np.float64)


def _quaternions(poses: list[Any]) -> Floats:
    return np.array(
        [(p.orientation.x, p.orientation.y, p.orientation.z, p.orientation.w) for p in poses],
        dtype=np.float64,
    )


def _angles(first_xyzw: Floats, second_xyzw: Floats) -> Floats:
    """Angle between unit quaternions, rad; NaN where one of them is not a rotation."""
    norms = np.linalg.norm(first_xyzw, axis=1) * np.linalg.norm(second_xyzw, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        first = first_xyzw / np.linalg.norm(first_xyzw, axis=1, keepdims=True)
        second = second_xyzw / np.linalg.norm(second_xyzw, axis=1, keepdims=True)
    # The sine form stays exact for small angles, where the arc cosine loses half its digits.
    sign = np.sign(np.sum(first * second, axis=1, keepdims=True))
    half = np.linalg.norm(first - np.where(sign == 0.0, 1.0, sign) * second, axis=1) / 2.0
    angles: Floats = 4.0 * np.arcsin(np.clip(half, 0.0, 1.0))
    angles[~(norms > 0.0)] = np.nan
    return angles
