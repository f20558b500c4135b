# SPDX-License-Identifier: Apache-2.0
"""What a robot's signals must look like to become an observation.

One YAML file per robot states every name, size, encoding, order and tolerance. The same code
builds the live observation and the offline one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import yaml
from numpy.typing import NDArray

from vla_data import images
from vla_data.observation import Observation, ObservationError
from vla_data.synchronisation import Signal

ForwardKinematics = Callable[[NDArray[np.float64]], NDArray[np.floating]]
Signals = Mapping[str, Signal[Any]]

HISTORY = 1024
CAMERA_HISTORY = 16


class ContractError(ValueError):
    """A contract file is wrong; the message names the key and what is allowed."""


@runtime_checkable
class JointStateMessage(Protocol):
    """Anything with the fields of a ``sensor_msgs/JointState``."""

    name: Sequence[str]
    position: Sequence[float]
    velocity: Sequence[float]


@runtime_checkable
class InstructionMessage(Protocol):
    """Anything that carries an instruction, such as ``vla_msgs/ControlOwner``."""

    instruction: str


def _check_text(where: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ContractError(f"{where}: {value!r} is not a name")


def _check_positive(where: str, value: object, unit: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or not value > 0:  # type: ignore[call-overload,operator]
        raise ContractError(f"{where}: {value!r} is not a positive number of {unit}")


def _check_names(where: str, value: object) -> None:
    if not isinstance(value, tuple) or not value:
        raise ContractError(f"{where}: {value!r} is not a list of names")
    for name in value:
        _check_text(where, name)
    if len(set(value)) != len(value):
        raise ContractError(f"{where}: {list(value)} names something twice")


@dataclass(frozen=True)
class CameraContract:
    """What a camera must deliver.

    Attributes:
        topic: Relative topic name.
        height: Rows, px; None for any number.
        width: Columns, px; None for any number.
        encoding: One of `images.ENCODINGS`.
        tolerance: Greatest age of a frame, s.
    """

    topic: str
    height: int | None
    width: int | None
    encoding: str
    tolerance: float

    def __post_init__(self) -> None:
        _check_text("camera topic", self.topic)
        for name in ("height", "width"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise ContractError(f"camera {name}: {value!r} is not a positive number of px")
        if self.encoding not in images.ENCODINGS:
            raise ContractError(
                f"camera encoding: {self.encoding!r} is not one of {', '.join(images.ENCODINGS)}"
            )
        _check_positive("camera tolerance", self.tolerance, "s")


@dataclass(frozen=True)
class JointsContract:
    """Which joints make up the arm, in the order a policy sees them.

    Attributes:
        topic: Relative topic name of the joint states.
        names: Joint names in order.
        tolerance: Greatest age of a joint state, s.
    """

    topic: str
    names: tuple[str, ...]
    tolerance: float

    def __post_init__(self) -> None:
        _check_text("joints topic", self.topic)
        _check_names("joints names", self.names)
        _check_positive("joints tolerance", self.tolerance, "s")


@dataclass(frozen=True)
class GripperContract:
    """How the distance between the finger pads follows from joint positions.

    The opening in m is ``offset + scale * sum(positions of joints)``.

    Attributes:
        topic: Relative topic name of the joint states.
        joints: Joints whose positions are added.
        tolerance: Greatest age of a joint state, s.
        scale: m per unit of joint position.
        offset: Opening at position zero, m.
    """

    topic: str
    joints: tuple[str, ...]
    tolerance: float
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        _check_text("gripper topic", self.topic)
        _check_names("gripper joints", self.joints)
        _check_positive("gripper tolerance", self.tolerance, "s")
        for name in ("scale", "offset"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not np.isfinite(value):
                raise ContractError(f"gripper {name}: {value!r} is not a finite number")
        if self.scale == 0.0:
            raise ContractError("gripper scale: 0 would make every opening the same")


@dataclass(frozen=True)
class InstructionContract:
    """Where the instruction in force comes from.

    Attributes:
        topic: Relative topic name of messages with a field ``instruction``.
        tolerance: Greatest age of such a message, s.
    """

    topic: str
    tolerance: float

    def __post_init__(self) -> None:
        _check_text("instruction topic", self.topic)
        _check_positive("instruction tolerance", self.tolerance, "s")


@dataclass(frozen=True)
class ObservationContract:
    """Everything that is fixed about one robot's observations.

    Attributes:
        name: Name of the contract.
        base_frame: Frame of the tool pose.
        tool_frame: Frame whose pose is observed.
        cameras: Camera name to what it must deliver.
        joints: The arm's joints.
        gripper: The gripper.
        instruction: Source of the instruction; None if the caller gives it.
    """

    name: str
    base_frame: str
    tool_frame: str
    cameras: Mapping[str, CameraContract]
    joints: JointsContract
    gripper: GripperContract
    instruction: InstructionContract | None = None

    def __post_init__(self) -> None:
        for name in ("name", "base_frame", "tool_frame"):
            _check_text(name, getattr(self, name))
        topics = [camera.topic for camera in self.cameras.values()]
        if len(set(topics)) != len(topics):
            raise ContractError(f"cameras: two share a topic: {', '.join(sorted(topics))}")

    @classmethod
    def from_yaml(cls, path: str | Path) -> ObservationContract:
        """Reads a contract.

        Args:
            path: The YAML file.

        Returns:
            The contract.

        Raises:
            ContractError: If a key is missing, unknown or has a value that is not allowed.
            OSError: If the file cannot be read.
        """
        try:
            document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ContractError(f"{path}: is not YAML: {error}") from error
        try:
            return cls.from_dict(document)
        except ContractError as error:
            raise ContractError(f"{path}: {error}") from None

    @classmethod
    def from_dict(cls, document: object) -> ObservationContract:
        """Builds a contract from a parsed YAML document; see `from_yaml`."""
        values = _keys("contract", cls, document)
        cameras = values["cameras"]
        if not isinstance(cameras, dict):
            raise ContractError(f"cameras: {cameras!r} is not a mapping from camera name to values")
        values["cameras"] = {
            str(name): _part(f"cameras.{name}", CameraContract, camera)
            for name, camera in cameras.items()
        }
        values["joints"] = _part("joints", JointsContract, values["joints"])
        values["gripper"] = _part("gripper", GripperContract, values["gripper"])
        if values.get("instruction") is not None:
            values["instruction"] = _part("instruction", InstructionContract, values["instruction"])
        return cls(**values)

    def signals(
        self, make: Callable[[str, float, int], Signal[Any]] = Signal
    ) -> dict[str, Signal[Any]]:
        """Creates the histories that `build` reads, one per topic.

        Append each message of a topic to its signal, with the stamp of what it describes.

        Args:
            make: Name, tolerance in s and capacity to a signal.

        Returns:
            Topic name, as in the contract, to an empty signal.
        """
        found: dict[str, Signal[Any]] = {}
        for name, camera in self.cameras.items():
            found[camera.topic] = make(f"camera {name!r}", camera.tolerance, CAMERA_HISTORY)
        others: list[tuple[str, JointsContract | GripperContract | InstructionContract]] = [
            ("joints", self.joints),
            ("gripper", self.gripper),
        ]
        if self.instruction is not None:
            others.append(("instruction", self.instruction))
        for name, part in others:
            if part.topic in found:
                known = found[part.topic]
                found[part.topic] = make(known.name, min(known.tolerance, part.tolerance), HISTORY)
            else:
                found[part.topic] = make(name, part.tolerance, HISTORY)
        return found

    def build(
        self,
        signals: Signals,
        now_ns: int,
        forward_kinematics: ForwardKinematics,
        instruction: str | None = None,
    ) -> Observation:
        """Builds the newest observation that is complete at a time.

        Its stamp is the oldest of the cameras' latest frames; every other signal has the value
        it had then. So the joint state fits the pictures, however late the pictures arrive.

        Args:
            signals: Topic name to history, as `signals` creates them.
            now_ns: The time, ns of ROS time; nothing later is used.
            forward_kinematics: Joint positions ``(n,)`` in rad to the ``(4, 4)`` pose of
                `tool_frame` in `base_frame`, m.
            instruction: The instruction in force, if it does not come from a signal.

        Returns:
            The observation.

        Raises:
            ObservationError: Naming what is missing, stale or not as the contract says.
        """
        frames = {
            name: self._signal(signals, camera.topic, f"camera {name!r}").at(now_ns)
            for name, camera in self.cameras.items()
        }
        stamp_ns = min((frame.stamp_ns for frame in frames.values()), default=now_ns)
        pictures = {
            name: self.picture(name, signals[camera.topic].at(stamp_ns).value)
            for name, camera in self.cameras.items()
        }
        arm = self._joint_state(signals, "joints", self.joints.topic, stamp_ns)
        q = _joint_values("joints", arm, "position", self.joints.names)
        dq = _joint_values("joints", arm, "velocity", self.joints.names)
        fingers = self._joint_state(signals, "gripper", self.gripper.topic, stamp_ns)
        openings = _joint_values("gripper", fingers, "position", self.gripper.joints)
        return Observation(
            stamp_ns=stamp_ns,
            images=pictures,
            q=q,
            dq=dq,
            gripper_opening=float(self.gripper.offset + self.gripper.scale * openings.sum()),
            instruction=self._instruction(signals, stamp_ns, instruction),
            pose_tool_in_base=np.asarray(forward_kinematics(q)),
        )

    @staticmethod
    def _signal(signals: Signals, topic: str, part: str) -> Signal[Any]:
        try:
            return signals[topic]
        except KeyError:
            raise ObservationError(
                part, f"has no signal {topic!r}; there are {', '.join(sorted(signals)) or 'none'}"
            ) from None

    def picture(self, name: str, message: object) -> NDArray[np.uint8]:
        """Turns a message of a camera into the picture that an observation holds.

        Args:
            name: Of the camera.
            message: A ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``.

        Returns:
            ``(height, width, 3)`` uint8 RGB.

        Raises:
            ObservationError: If it is not as the contract says.
        """
        part, camera = f"camera {name!r}", self.cameras[name]
        encoding = images.message_encoding(message, part=part)
        if encoding != camera.encoding:
            raise ObservationError(
                part, f"has encoding {encoding!r}, the contract says {camera.encoding!r}"
            )
        picture = images.decode_message(message, part=part)
        height, width = picture.shape[:2]
        if camera.height not in (None, height) or camera.width not in (None, width):
            raise ObservationError(
                part,
                f"is {width}x{height} px, the contract says "
                f"{camera.width or 'any'}x{camera.height or 'any'} px",
            )
        return images.to_rgb(picture)

    def _joint_state(
        self, signals: Signals, part: str, topic: str, stamp_ns: int
    ) -> JointStateMessage:
        message = self._signal(signals, topic, part).at(stamp_ns).value
        if not isinstance(message, JointStateMessage):
            raise ObservationError(part, f"{type(message).__name__} is not a joint state")
        return message

    def _instruction(self, signals: Signals, stamp_ns: int, instruction: str | None) -> str:
        if instruction is not None:
            return instruction
        if self.instruction is None:
            raise ObservationError("instruction", "is neither given nor part of the contract")
        signal = self._signal(signals, self.instruction.topic, "instruction")
        message = signal.at(stamp_ns).value
        if not isinstance(message, InstructionMessage):
            raise ObservationError(
                "instruction", f"{type(message).__name__} has no field instruction"
            )
        return message.instruction


def _joint_values(
    part: str, state: JointStateMessage, field: str, names: tuple[str, ...]
) -> NDArray[np.float64]:
    """Picks the values of some joints by name, in the order of the names."""
    where = {name: index for index, name in enumerate(state.name)}
    missing = [name for name in names if name not in where]
    if missing:
        raise ObservationError(
            part, f"lacks {', '.join(missing)}; it has {', '.join(state.name) or 'no names'}"
        )
    values = np.asarray(getattr(state, field), dtype=np.float64)
    if values.shape != (len(state.name),):
        raise ObservationError(
            part, f"{field} has {values.size} values for {len(state.name)} joint names"
        )
    chosen: NDArray[np.float64] = values[[where[name] for name in names]]
    for name, value in zip(names, chosen, strict=True):
        if not np.isfinite(value):
            raise ObservationError(part, f"{field} of {name} is {value}")
    return chosen


P = TypeVar("P", CameraContract, JointsContract, GripperContract, InstructionContract)


def _keys(where: str, kind: type, document: object) -> dict[str, Any]:
    """Checks that a mapping has exactly the fields of a dataclass; lists become tuples."""
    if not isinstance(document, dict):
        raise ContractError(f"{where}: {document!r} is not a mapping")
    known = {field.name: field for field in fields(kind)}
    unknown = [str(key) for key in document if key not in known]
    if unknown:
        raise ContractError(
            f"{where}: unknown key {', '.join(unknown)}; allowed are {', '.join(known)}"
        )
    missing = [
        name for name, field in known.items() if field.default is MISSING and name not in document
    ]
    if missing:
        raise ContractError(f"{where}: lacks {', '.join(missing)}")
    return {
        str(key): tuple(value) if isinstance(value, list) else value
        for key, value in document.items()
    }


def _part(where: str, kind: type[P], document: object) -> P:
    values = _keys(where, kind, document)
    try:
        return kind(**values)
    except ContractError as error:
        raise ContractError(f"{where}: {error}") from None
