# SPDX-License-Identifier: Apache-2.0
"""Messages and an episode made without a robot, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vla_data import Definitions, EpisodeInfo, EpisodeOutcome, EpisodeWriter, images

NS = 1_000_000_000
JOINTS = [f"panda_joint{i}" for i in range(1, 8)]
FINGERS = ["panda_finger_joint1", "panda_finger_joint2"]
TORQUE_LIMITS = [87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0]
TYPES = (
    "diagnostic_msgs/msg/DiagnosticArray",
    "rosgraph_msgs/msg/Clock",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/String",
    "vla_msgs/msg/ActionChunk",
    "vla_msgs/msg/ControlOwner",
    "vla_msgs/msg/ControllerState",
    "vla_msgs/msg/EpisodeEvent",
    "vla_msgs/msg/PolicyFeatures",
    "vla_msgs/msg/TaskStatus",
)
INACTIVE, HOLDING, TRACKING, BRAKING, FAULT = range(5)


class Messages:
    """Makes and serialises messages from their definitions alone."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self.store = definitions.typestore(TYPES)

    def make(self, type_name: str, **fields: Any) -> Any:
        """Makes a message; fields that are not given are zero, false or empty."""
        values: dict[str, Any] = {}
        for name, description in self.store.fielddefs[type_name][1]:
            values[name] = fields.pop(name) if name in fields else self._zero(description)
        if fields:
            raise ValueError(f"{type_name} has no field {', '.join(fields)}")
        return self.store.types[type_name](**values)

    def _zero(self, description: Any) -> Any:
        kind, inner = int(description[0]), description[1]
        if kind == 1:
            return {"string": "", "bool": False}.get(inner[0], 0)
        if kind == 2:
            return self.make(inner)
        base = inner[0]
        if int(base[0]) == 1 and base[1][0] not in ("string", "bool"):
            return np.zeros(0 if kind == 4 else inner[1], dtype=base[1][0])
        return []

    def header(self, stamp_ns: int, frame_id: str = "") -> Any:
        stamp = self.make("builtin_interfaces/msg/Time", sec=stamp_ns // NS, nanosec=stamp_ns % NS)
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def pose(self, position: Any, quat_xyzw: Any = (0.0, 0.0, 0.0, 1.0)) -> Any:
        x, y, z = (float(v) for v in position)
        qx, qy, qz, qw = (float(v) for v in quat_xyzw)
        return self.make(
            "geometry_msgs/msg/Pose",
            position=self.make("geometry_msgs/msg/Point", x=x, y=y, z=z),
            orientation=self.make("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
        )

    def image(self, stamp_ns: int, pixels: Any, encoding: str = "rgb8") -> Any:
        fields = images.encode(pixels, encoding)
        return self.make(
            "sensor_msgs/msg/Image",
            header=self.header(stamp_ns, "camera"),
            **{**fields._asdict(), "data": np.frombuffer(fields.data, np.uint8)},
        )

    def joint_state(self, stamp_ns: int, q: Any, dq: Any, opening: float = 0.08) -> Any:
        return self.make(
            "sensor_msgs/msg/JointState",
            header=self.header(stamp_ns),
            name=[*FINGERS, *JOINTS],
            position=np.array([opening / 2, opening / 2, *q]),
            velocity=np.array([0.0, 0.0, *dq]),
            effort=np.zeros(0),
        )

    def cdr(self, message: Any) -> bytes:
        return bytes(self.store.serialize_cdr(message, message.__msgtype__))


def picture(camera: str, time: float, size: int = 96) -> np.ndarray:
    """Draws a block that moves over a table."""
    rows, columns = np.mgrid[0:size, 0:size]
    shade = (150 + 60 * rows / size).astype(np.uint8)
    pixels = np.stack([shade, shade, (shade * 0.9).astype(np.uint8)], axis=-1)
    x = size * (0.2 + 0.25 * time)
    y = size * (0.5 if camera == "scene" else 0.35)
    pixels[(abs(columns - x) < size * 0.07) & (abs(rows - y) < size * 0.07)] = (200, 40, 40)
    pixels[(columns - size * 0.7) ** 2 + (rows - size * 0.7) ** 2 < (size * 0.09) ** 2] = (
        40,
        90,
        200,
    )
    return pixels


def controller_state(messages: Messages, stamp_ns: int, time: float, phase: int) -> Any:
    """The measured pose is 3 mm beside the reference in y and 2 degrees off about z."""
    reference = np.array([0.4 + 0.1 * np.sin(2.0 * time), 0.05 * time, 0.3 - 0.05 * time])
    measured = reference + np.array([0.0, 0.003, 0.0])
    half = np.deg2rad(2.0) / 2
    tau = np.array(TORQUE_LIMITS) * 0.6 * np.sin(3.0 * time + np.arange(7))
    return messages.make(
        "vla_msgs/msg/ControllerState",
        header=messages.header(stamp_ns, "panda_link0"),
        tool_frame="panda_hand_tcp",
        phase=phase,
        sequence=1 if phase == TRACKING else 0,
        chunk_age=0.1 + 0.4 * (time % 0.4) if phase == TRACKING else -1.0,
        joint_names=JOINTS,
        q=np.zeros(7),
        dq=np.zeros(7),
        tau_command=tau,
        tau_limit=np.array(TORQUE_LIMITS),
        pose_tool_in_base=messages.pose(measured, (0, 0, np.sin(half), np.cos(half))),
        reference_pose_tool_in_base=messages.pose(reference),
        torque_saturated=0.5 <= time < 0.6,
        torque_rate_saturated=False,
    )


def write_episode(
    path: Path, messages: Messages, *, duration: float = 2.0, start_ns: int = 5 * NS
) -> Path:
    """Writes an episode: 50 Hz controller, two cameras at 15 Hz, a chunk every 0.4 s."""
    info = EpisodeInfo(
        episode_id=path.name,
        source="sim_franka",
        task="pick",
        seed=2_000_007,
        instruction="pick up the red block",
        policy_id="nano_pi0:abc",
        versions={"vla_data": "0.1.0"},
    )
    events: list[tuple[int, str, Any]] = []

    def add(time: float, topic: str, message: Any) -> None:
        events.append((start_ns + round(time * NS), topic, message))

    def status(time: float, outcome: int) -> Any:
        verdict = messages.make("vla_msgs/msg/Outcome", outcome=outcome, outcome_source=3)
        return messages.make(
            "vla_msgs/msg/TaskStatus",
            header=messages.header(start_ns + round(time * NS)),
            episode_id=path.name,
            task="pick",
            outcome=verdict,
            elapsed=time,
        )

    def phase(time: float) -> int:
        if time < 0.2:
            return HOLDING
        return TRACKING if time < duration - 0.3 else BRAKING

    for time in np.arange(0.0, duration, 0.02):
        stamp = start_ns + round(time * NS)
        state = controller_state(messages, stamp, float(time), phase(time))
        add(time, "/controller/state", state)
        add(time, "/joint_states", messages.joint_state(stamp, np.zeros(7), np.zeros(7)))
    for index in range(int(duration * 15)):
        time = index / 15
        for camera in ("scene", "wrist"):
            frame = messages.image(start_ns + round(time * NS), picture(camera, time))
            add(time + 0.004, f"/cameras/{camera}/image_raw", frame)
    for index in range(int(duration / 0.4)):
        time = index * 0.4
        observed = messages.header(start_ns + round(time * NS), "panda_link0")
        chunk = messages.make("vla_msgs/msg/ActionChunk", header=observed, sequence=index + 1)
        add(time + 0.08, "/policy/action_chunk", chunk)
        features = messages.make(
            "vla_msgs/msg/PolicyFeatures",
            header=observed,
            encode_latency=0.02,
            act_latency=0.03,
        )
        add(time + 0.08, "/policy/features", features)
    for index in range(int(duration * 10)):
        add(index / 10, "/task/status", status(index / 10, 0))
    value = messages.make("diagnostic_msgs/msg/KeyValue", key="real_time_factor", value="0.97")
    entry = messages.make("diagnostic_msgs/msg/DiagnosticStatus", name="sim_node", values=[value])
    diagnostics = messages.make("diagnostic_msgs/msg/DiagnosticArray", status=[entry])
    add(1.0, "/diagnostics", diagnostics)

    writer = EpisodeWriter(path, info, definitions=messages.definitions)
    for stamp, topic, message in sorted(events, key=lambda event: event[0]):
        writer.write(topic, message.__msgtype__, messages.cdr(message), stamp)
    return writer.close(EpisodeOutcome("success", "simulator", "lifted 0.12 m"))
