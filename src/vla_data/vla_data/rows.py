# SPDX-License-Identifier: Apache-2.0
"""An episode as rows at a fixed rate: what was observed, and what was then done.

The observation of a row is built by the contract that builds the live one, from the same messages.
``action[t]`` is the reference that was in force one period after the row's observation, whoever had
commanded it: what the controller was following, after arbitration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_data import images
from vla_data.cameras import camera_topics
from vla_data.contract import CameraContract, ForwardKinematics, ObservationContract
from vla_data.episode_reader import EpisodeReader, EpisodeReadError, RawMessage, header_stamp_ns
from vla_data.observation import Observation, ObservationError
from vla_data.synchronisation import NS_PER_S, Sample, Signal

CONTROLLER_TOPIC, OWNER_TOPIC = "controller/state", "control_owner"
CHUNK_TOPIC, DESCRIPTION_TOPIC = "policy/action_chunk", "robot_description"
EVENTS_TOPIC = "episode/events"
START, END = 0, 1
"""Events of ``vla_msgs/EpisodeEvent``."""
SOURCES = ("none", "policy", "recovery", "operator")
"""Who had the arm, by the numbers of ``vla_msgs/ControlOwner``."""
OPERATOR = SOURCES.index("operator")
POSE_NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw")
ACTION_NAMES = (*POSE_NAMES, "gripper_opening")
TWIST_NAMES = ("vx", "vy", "vz", "wx", "wy", "wz")

STATE_TOLERANCE = 0.1  # s, of the controller's state
OWNER_TOLERANCE = 0.5  # s, of the supervisor's heartbeat
# A message may be recorded so long after the time it describes, s.
LATENESS = 0.5
# Histories hold what comes within that time: cameras of 60 Hz, states of 1 kHz.
HISTORY_FACTOR = 4

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ChunkShape:
    """What a policy's chunks hold.

    Attributes:
        steps: Steps of a chunk.
        names: What the columns are, the gripper's opening last.
    """

    steps: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """What is to be known of an episode before its rows can be laid out.

    Attributes:
        stamps_ns: Camera to its frames' own stamps, in order.
        sizes: Camera to ``(height, width)``, px.
        span_ns: First and last time of reception of what belongs to the episode: what was recorded
            before its START or after its END makes no rows.
        owned_ns: First and last time at which somebody had the arm.
        chunk: Of the policy's chunks; None without any.
        description: URDF of the arm.
    """

    stamps_ns: dict[str, NDArray[np.int64]]
    sizes: dict[str, tuple[int, int]]
    span_ns: tuple[int, int]
    owned_ns: tuple[int, int]
    chunk: ChunkShape | None
    description: str

    @property
    def rates(self) -> dict[str, float]:
        """Camera to its mean frame rate by the frames' own stamps, Hz."""
        return {
            name: (len(stamps) - 1) * NS_PER_S / float(stamps[-1] - stamps[0])
            for name, stamps in self.stamps_ns.items()
        }


@dataclass(frozen=True, eq=False)
class Row:
    """One row.

    Attributes:
        observation: As the policy would have been given it, with the instruction in force.
        action: ``(8,)`` reference one period later, `ACTION_NAMES`: pose of the tool in the base
            frame, m and unit quaternion, and opening of the gripper, m. Where nobody had commanded
            the gripper yet: its measured opening.
        control_source: Who commanded that action, one of `SOURCES`.
        intervention: Whether that was the operator.
        chunk: ``(steps, columns)`` of the newest chunk of the policy that had arrived; None where
            there is none or it has run out.
        chunk_age: From that chunk's observation to this one, s; NaN without a chunk.
        repeated: Whether this is the observation of the row before: no newer frame had come.
    """

    observation: Observation
    action: Floats
    control_source: str
    intervention: bool
    chunk: Floats | None
    chunk_age: float
    repeated: bool


def recorded_cameras(reader: EpisodeReader, tolerance: float) -> dict[str, CameraContract]:
    """Contracts of all cameras in a bag, by their first pictures.

    Args:
        reader: The open bag.
        tolerance: Greatest age of a frame, s.

    Raises:
        EpisodeReadError: If there is none.
    """
    found: dict[str, CameraContract] = {}
    for name, topic in camera_topics(reader).items():
        message = next(iter(reader.messages([topic]))).message
        height, width = images.decode_message(message).shape[:2]
        encoding = images.message_encoding(message)
        found[name] = CameraContract(topic.strip("/"), height, width, encoding, tolerance)
    if not found:
        raise EpisodeReadError(f"{reader.path} holds no images")
    return found


def survey(reader: EpisodeReader, contract: ObservationContract) -> Survey:
    """Reads the stamps of an episode's frames and who had the arm when.

    Args:
        reader: The open bag.
        contract: Of the robot; at least one camera.

    Returns:
        What was found.

    Raises:
        EpisodeReadError: If the bag is damaged or lacks a topic.
        ObservationError: If it holds no rows: nobody had the arm, or a camera is silent.
    """
    begin, end = span_ns = episode_span(reader)
    stamps: dict[str, list[int]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name, part in contract.cameras.items():
        topic = reader.find_topic(part.topic)
        stamps[name] = reader.header_stamps(topic, begin, end + 1)
        picture = contract.picture(name, next(iter(reader.messages([topic]))).message)
        sizes[name] = (picture.shape[0], picture.shape[1])
    owned_ns = _owned(reader, reader.find_topic(OWNER_TOPIC), span_ns)
    description_topic = reader.find_topic(DESCRIPTION_TOPIC)
    description = next(iter(reader.messages([description_topic]))).message.data
    chunk_topic = find_optional(reader, CHUNK_TOPIC)
    chunk = None
    if chunk_topic is not None:
        chunk = chunk_shape(next(iter(reader.messages([chunk_topic]))).message)
    for name, found in stamps.items():
        if len(set(found)) < 2:
            raise ObservationError(
                f"camera {name!r}", f"has {len(set(found))} frames, 2 are needed"
            )
    return Survey(
        stamps_ns={name: np.unique(np.array(found)) for name, found in stamps.items()},
        sizes=sizes,
        span_ns=span_ns,
        owned_ns=owned_ns,
        chunk=chunk,
        description=str(description),
    )


def episode_span(reader: EpisodeReader) -> tuple[int, int]:
    """Times of reception of an episode's START and END, ns.

    Where the bag does not hold such an event, the time of its first or last message.
    """
    if reader.start_ns is None or reader.end_ns is None:
        raise EpisodeReadError(f"{reader.path} holds no messages")
    begin, end = reader.start_ns, reader.end_ns
    topic = find_optional(reader, EVENTS_TOPIC)
    for each in reader.messages([topic]) if topic else ():
        if each.message.episode_id != reader.info.episode_id:
            continue
        if each.message.event == START and begin == reader.start_ns:
            begin = each.log_ns
        elif each.message.event == END:
            end = each.log_ns
    return begin, end


def _owned(reader: EpisodeReader, topic: str, span_ns: tuple[int, int]) -> tuple[int, int]:
    """First and last time at which somebody had the arm, ns, without reading what lies between."""

    def owned(start_ns: int, end_ns: int) -> Iterator[int]:
        for raw in reader.raw_messages([topic], start_ns, end_ns):
            if reader.decode(raw).owner:
                yield header_stamp_ns(raw)

    begin, end = span_ns[0], span_ns[1] + 1
    first = next(owned(begin, end), None)
    if first is None:
        raise ObservationError(OWNER_TOPIC, "says that nobody ever had the arm")
    while True:
        late = list(owned(max(begin, end - NS_PER_S), end))
        if late:
            return first, late[-1]
        end -= NS_PER_S


def common_rate(surveys: list[Survey]) -> int:
    """The rate of rows that fits episodes: that of their slowest camera, a whole number of Hz.

    Args:
        surveys: Of the episodes.

    Returns:
        The nearest whole number where the median rate is within 2 % of it, else the one below, so
        that no frame has to be shown twice.
    """
    rate = float(np.median([min(one.rates.values()) for one in surveys]))
    nearest = round(rate)
    return max(1, nearest if abs(rate - nearest) <= 0.02 * nearest else int(rate))


def grid(found: Survey, rate: int) -> tuple[int, int]:
    """Where rows lie: time of the first and time between them, ns.

    They lie half a period behind the frames of the slowest camera, so that the jitter of its stamps
    neither skips a frame nor shows one twice.
    """
    period = NS_PER_S // rate
    slowest = min(found.rates, key=lambda name: found.rates[name])
    stamps = found.stamps_ns[slowest]
    angles = 2.0 * np.pi * (stamps % period) / period
    middle = float(np.angle(np.exp(1j * angles).mean())) / (2.0 * np.pi) * period
    phase = round(middle + 0.5 * period) % period
    begin = found.owned_ns[0] - period
    return begin + (phase - begin) % period, period


def read_rows(
    reader: EpisodeReader,
    contract: ObservationContract,
    found: Survey,
    rate: int,
    forward_kinematics: ForwardKinematics,
) -> Iterator[Row]:
    """Yields the rows of an episode, while somebody has the arm.

    Args:
        reader: The open bag.
        contract: Of the robot.
        found: Of the same bag.
        rate: Rows per second.
        forward_kinematics: As `ObservationContract.build` wants it.

    Yields:
        The rows in order, none left out between the first and the last.

    Raises:
        EpisodeReadError: If the bag is damaged.
        ObservationError: If a row in the middle of the episode cannot be built, as when a camera
            was silent for longer than its tolerance.
    """
    builder = _RowBuilder(reader, contract, rate, forward_kinematics)
    first, period = grid(found, rate)
    gap: ObservationError | None = None
    begun = False
    for now_ns in builder.times(first, period, found):
        try:
            row = builder.build(now_ns)
        except ObservationError as error:
            # Before the first row signals are still on their way; after the last they may end.
            gap = gap or ObservationError(
                error.part, f"{error.reason}, {(now_ns - first) / NS_PER_S:.2f} s into the episode"
            )
            continue
        if begun and gap is not None:
            raise gap
        begun, gap = True, None
        yield row
    if not begun:
        raise gap or ObservationError("rows", "there are none")


class _StoredSignal(Signal[Any]):
    """A history of stored messages; one is decoded when it is asked for."""

    def __init__(
        self, name: str, tolerance: float, capacity: int, decode: Callable[[RawMessage], Any]
    ) -> None:
        super().__init__(name, tolerance, capacity)
        self._decode = decode
        self._newest: tuple[Sample[Any], Any] | None = None

    def latest(self, time_ns: int) -> Sample[Any] | None:
        """See `Signal.latest`."""
        sample = super().latest(time_ns)
        if sample is None:
            return None
        if self._newest is None or self._newest[0] is not sample:
            self._newest = sample, self._decode(sample.value)
        return Sample(sample.stamp_ns, self._newest[1])


class _RowBuilder:
    """Keeps the histories of an episode's signals and builds rows from them."""

    def __init__(
        self,
        reader: EpisodeReader,
        contract: ObservationContract,
        rate: int,
        forward_kinematics: ForwardKinematics,
    ) -> None:
        self._reader = reader
        self._contract = contract
        self._forward_kinematics = forward_kinematics
        self._period = NS_PER_S // rate
        self._signals = contract.signals(self._signal)
        self._owners = self._signal(OWNER_TOPIC, OWNER_TOLERANCE, 64)
        self._states = self._signal(CONTROLLER_TOPIC, STATE_TOLERANCE, 512)
        self._chunks = self._signal(CHUNK_TOPIC, float("inf"), 64)
        self._by_topic: dict[str, list[Signal[Any]]] = {}
        for name, signal in [
            *self._signals.items(),
            (OWNER_TOPIC, self._owners),
            (CONTROLLER_TOPIC, self._states),
        ]:
            self._by_topic.setdefault(reader.find_topic(name), []).append(signal)
        self._chunk_topic = find_optional(reader, CHUNK_TOPIC)
        self._last_stamp_ns = -1
        self._last_quaternion = np.zeros(4)

    def _signal(self, name: str, tolerance: float, capacity: int) -> Signal[Any]:
        return _StoredSignal(name, tolerance, HISTORY_FACTOR * capacity, self._reader.decode)

    def times(self, first_ns: int, period_ns: int, found: Survey) -> Iterator[int]:
        """Yields the times of rows, each once all is read that belongs to it."""
        last_ns = found.owned_ns[1]
        topics = [*self._by_topic, *([self._chunk_topic] if self._chunk_topic else [])]
        now_ns = first_ns
        slack_ns = period_ns + round(LATENESS * NS_PER_S)
        for raw in self._reader.raw_messages(topics, found.span_ns[0]):
            while now_ns <= last_ns and raw.log_ns > now_ns + slack_ns:
                yield now_ns
                now_ns += period_ns
            if raw.topic == self._chunk_topic:
                # A chunk counts from when it was there, not from when its observation was taken.
                self._chunks.append(raw.log_ns, raw)
                continue
            stamp_ns = header_stamp_ns(raw)
            for signal in self._by_topic[raw.topic]:
                signal.append(stamp_ns, raw)
        while now_ns <= last_ns:
            yield now_ns
            now_ns += period_ns

    def build(self, now_ns: int) -> Row:
        """Builds the row of a time; see `read_rows`."""
        instruction = str(self._owners.at(now_ns).value.instruction)
        observation = self._contract.build(
            self._signals, now_ns, self._forward_kinematics, instruction
        )
        then_ns = observation.stamp_ns + self._period
        source = int(self._owners.at(then_ns).value.owner)
        action = self._action(self._states.at(then_ns).value, observation)
        chunk, age = self._chunk(now_ns, observation.stamp_ns)
        repeated = observation.stamp_ns == self._last_stamp_ns
        self._last_stamp_ns = observation.stamp_ns
        return Row(
            observation=observation,
            action=action,
            control_source=SOURCES[source],
            intervention=source == OPERATOR,
            chunk=chunk,
            chunk_age=age,
            repeated=repeated,
        )

    def _action(self, state: Any, observation: Observation) -> Floats:
        frames = (str(state.header.frame_id), str(state.tool_frame))
        if frames != (self._contract.base_frame, self._contract.tool_frame):
            raise ObservationError(
                CONTROLLER_TOPIC,
                f"is of {frames[1]} in {frames[0]}, the contract says "
                f"{self._contract.tool_frame} in {self._contract.base_frame}",
            )
        pose = pose_vector(state.reference_pose_tool_in_base)
        if not np.isfinite(pose).all() or not np.isclose(np.linalg.norm(pose[3:]), 1.0, atol=1e-3):
            raise ObservationError(CONTROLLER_TOPIC, f"has no valid reference: {pose.tolist()}")
        if float(pose[3:] @ self._last_quaternion) < 0.0:
            pose[3:] *= -1.0  # the same rotation, and continuous from row to row
        self._last_quaternion = pose[3:]
        opening = (
            float(state.gripper_opening_command)
            if state.gripper_commanded
            else observation.gripper_opening
        )
        return np.append(pose, opening)

    def _chunk(self, now_ns: int, stamp_ns: int) -> tuple[Floats | None, float]:
        sample = self._chunks.latest(now_ns)
        if sample is None:
            return None, float("nan")
        message = sample.value
        stamp = message.header.stamp
        age = (stamp_ns - (int(stamp.sec) * NS_PER_S + int(stamp.nanosec))) / NS_PER_S
        values = chunk_values(message)
        if age > len(values) * float(message.step_dt):
            return None, float("nan")
        return values, age


def find_optional(reader: EpisodeReader, name: str) -> str | None:
    """Like `EpisodeReader.find_topic`; None where there is none with messages."""
    held = (topic for topic in reader.topics.values() if topic.count)
    return reader.find_topic(name) if any(t.name.endswith(f"/{name}") for t in held) else None


def pose_vector(pose: Any) -> Floats:
    """``(7,)`` position and quaternion xyzw of a ``geometry_msgs/Pose``."""
    p, o = pose.position, pose.orientation
    return np.array([p.x, p.y, p.z, o.x, o.y, o.z, o.w], dtype=np.float64)


def chunk_shape(message: Any) -> ChunkShape:
    """What the chunks of a policy hold, by one of them."""
    names = {0: POSE_NAMES, 1: tuple(map(str, message.joint_names)), 2: TWIST_NAMES}
    return ChunkShape(len(chunk_values(message)), (*names[int(message.mode)], "gripper_opening"))


def chunk_values(message: Any) -> Floats:
    """``(steps, columns)`` of a ``vla_msgs/ActionChunk``; NaN where the gripper is left alone."""
    if message.mode == 0:
        rows = [pose_vector(pose) for pose in message.poses]
    elif message.mode == 1:
        rows = list(np.reshape(message.joint_values, (-1, max(1, len(message.joint_names)))))
    else:
        rows = [
            np.array([t.linear.x, t.linear.y, t.linear.z, t.angular.x, t.angular.y, t.angular.z])
            for t in message.twists
        ]
    opening = np.full(len(rows), np.nan)
    if len(message.gripper_opening) == len(rows):
        opening[:] = message.gripper_opening
    values: Floats = np.column_stack(
        [np.array(rows, dtype=np.float64).reshape(len(rows), -1), opening]
    )
    return values
