# SPDX-License-Identifier: Apache-2.0
"""Words of supervision: states, owners, outcomes and events, with the numbers of the messages."""

from __future__ import annotations

import enum
from dataclasses import dataclass

SECOND = 1_000_000_000


class State(enum.IntEnum):
    """Numbers of ControlOwner.STATE_*."""

    IDLE = 0
    AUTONOMOUS = 1
    TELEOP = 2
    PAUSED = 3
    RECOVERING = 4
    ASKING = 5
    FAULT = 6


class Owner(enum.IntEnum):
    """Numbers of ControlOwner.OWNER_*."""

    NONE = 0
    POLICY = 1
    RECOVERY = 2
    OPERATOR = 3


class Verdict(enum.IntEnum):
    """Numbers of Outcome.UNKNOWN and so on."""

    UNKNOWN = 0
    SUCCESS = 1
    FAILURE = 2
    CANCELED = 3
    PREEMPTED = 4
    ABORTED = 5


class Source(enum.IntEnum):
    """Numbers of Outcome.SOURCE_*."""

    NONE = 0
    OPERATOR = 1
    DETECTOR = 2
    SIMULATOR = 3
    TIMEOUT = 4


class EventKind(enum.IntEnum):
    """Numbers of EpisodeEvent.START and so on."""

    START = 0
    END = 1
    INSTRUCTION = 2
    GRANT = 3
    PAUSE = 4
    RESUME = 5
    STOP = 6
    RESET = 7
    FAULT = 8
    NOTE = 9
    RECORDING = 10


class ControllerFault(enum.IntEnum):
    """Numbers of ControllerState.FAULT_*."""

    NONE = 0
    STOP_REQUESTED = 1
    HEARTBEAT_LOST = 2
    CHUNK_TIMEOUT = 3
    BAD_JOINT_STATE = 4
    CLOCK_JUMP = 5
    NUMERIC = 6
    TRACKING_DEVIATION = 7
    FORCE_SENSOR = 8
    CONTACT_FORCE = 9


class Drop(enum.Enum):
    """Why a chunk of a policy or of an operator's device was not forwarded."""

    NOT_AUTONOMOUS = "not autonomous"
    BEFORE_GRANT = "observation older than the grant"
    OTHER_INSTRUCTION = "observation under another instruction"
    NOT_OPERATOR = "from a device that does not own the arm"


@dataclass(frozen=True)
class Goal:
    """What to do. ``time_limit`` in s of ROS time; an empty ``episode_id`` is drawn."""

    instruction: str
    task: str = ""
    time_limit: float = 60.0
    episode_id: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a task ended, and who says so."""

    verdict: Verdict
    source: Source
    message: str


@dataclass(frozen=True)
class Event:
    """Something to publish on episode/events."""

    stamp_ns: int
    kind: EventKind
    task: Task | None
    text: str = ""


@dataclass(frozen=True)
class ChunkInfo:
    """What decides whether a chunk is forwarded."""

    stamp_ns: int
    sequence: int
    instruction_id: int


@dataclass
class Task:
    """A goal in force or finished."""

    goal: Goal
    episode_id: str
    instruction_id: int
    accepted_ns: int
    granted_ns: int | None = None
    ended_ns: int | None = None
    paused_ns: int = 0
    outcome: Outcome | None = None
    chunks: int = 0
    chunk_latency: float = 0.0

    def duration(self, now_ns: int) -> float:
        """Time in s since the grant, up to the end."""
        if self.granted_ns is None:
            return 0.0
        end = now_ns if self.ended_ns is None else self.ended_ns
        return max(0, end - self.granted_ns) / SECOND
