# SPDX-License-Identifier: Apache-2.0
"""An episode with everything a dataset is made of: chunks, owners, references, jittery cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from made_episode import FINGERS, HOLDING, JOINTS, NS, TRACKING, Messages, picture

from vla_data import (
    CameraContract,
    EpisodeInfo,
    EpisodeOutcome,
    EpisodeWriter,
    GripperContract,
    JointsContract,
    ObservationContract,
)

RATE = 20
PERIOD = 1.0 / RATE
DURATION = 3.0
TAKEOVER = 2.0  # s, when an operator takes the arm
CAMERAS = ("scene", "wrist")
CONTRACT = ObservationContract(
    name="sim_franka",
    base_frame="panda_link0",
    tool_frame="panda_hand_tcp",
    cameras={n: CameraContract(f"cameras/{n}/image_raw", 96, 96, "rgb8", 0.25) for n in CAMERAS},
    joints=JointsContract("joint_states", tuple(JOINTS), 0.1),
    gripper=GripperContract("joint_states", tuple(FINGERS), 0.1),
)


def reference(time: float) -> np.ndarray:
    """Where the tool is meant to be, m."""
    return np.array([0.4 + 0.1 * np.sin(2.0 * time), 0.05 * time, 0.3 - 0.05 * time])


def quaternion(time: float) -> np.ndarray:
    """A turn about x that passes pi, xyzw, written with a sign that jumps as an estimator's may."""
    half = 1.4 + 0.1 * time
    sign = -1.0 if int(time * 10) % 2 else 1.0
    return sign * np.array([np.sin(half), 0.0, 0.0, np.cos(half)])


def kinematics(q: np.ndarray) -> np.ndarray:
    """An arm whose first three joints are the position of its tool."""
    pose = np.eye(4)
    pose[:3, 3] = q[:3]
    return pose


def write(
    path: Path,
    messages: Messages,
    *,
    silent: tuple[str, float, float] | None = None,
    events_at: dict[float, tuple[int, str]] | None = None,
    images: str = "raw",
    urdf: str = "<robot name='none'/>",
    outcome: str = "success",
    seed: int = 2_000_007,
    instruction: str = "pick it up",
    instructions: dict[float, str] | None = None,
) -> Path:
    """Writes the episode, whose times begin at 0.

    Args:
        path: Folder of the bag.
        messages: Makes messages.
        silent: A camera without frames from one time to another, s.
        events_at: Time, s, to number and episode of an event.
        images: How the bag holds them.
        urdf: Of the arm.
        outcome: How the episode ends.
        seed: Of the scene.
        instruction: In force from the start.
        instructions: Those that replace it, by their times, s.
    """
    rng = np.random.default_rng(0)
    info = EpisodeInfo(path.name, "sim_franka", "pick", seed, instruction, "nano_pi0:abc")
    events: list[tuple[int, str, Any]] = []
    said_at = {0.0: instruction, **(instructions or {})}

    def add(time: float, topic: str, message: Any) -> None:
        events.append((round(time * NS), topic, message))

    for time, (number, episode) in (events_at or {}).items():
        event = messages.make(
            "vla_msgs/msg/EpisodeEvent",
            header=messages.header(round(time * NS)),
            event=number,
            episode_id=episode,
        )
        add(time, "/episode/events", event)
    add(0.0, "/robot_description", messages.make("std_msgs/msg/String", data=urdf))
    for tick in range(round(DURATION * 100)):
        time = tick / 100
        stamp = round(time * NS)
        q = np.array([*reference(time), 0.0, 0.0, 0.0, 0.0])
        add(time + 0.001, "/joint_states", messages.joint_state(stamp, q, 0.1 * q))
        state = messages.make(
            "vla_msgs/msg/ControllerState",
            header=messages.header(stamp, "panda_link0"),
            tool_frame="panda_hand_tcp",
            phase=TRACKING if time > 0.5 else HOLDING,
            joint_names=JOINTS,
            reference_pose_tool_in_base=messages.pose(reference(time), quaternion(time)),
            gripper_commanded=True,
            gripper_opening_command=0.03,
        )
        add(time + 0.001, "/controller/state", state)
        if tick % 2 == 0:
            owner = 0 if time < 0.3 or time > 2.8 else (3 if time >= TAKEOVER else 1)
            told = messages.make(
                "vla_msgs/msg/ControlOwner",
                header=messages.header(stamp),
                owner=owner,
                instruction=max((at, said) for at, said in said_at.items() if at <= time)[1],
                episode_id=path.name,
            )
            add(time + 0.001, "/control_owner", told)
    for number in range(round(DURATION * RATE)):
        time = number / RATE + rng.uniform(0.0, 0.004)
        for camera in CAMERAS:
            if silent and camera == silent[0] and silent[1] <= time < silent[2]:
                continue
            frame = messages.image(round(time * NS), picture(camera, time))
            add(time + 0.006, f"/cameras/{camera}/image_raw", frame)
    for time in (0.4, 0.6, 0.8, 1.0):
        # Its first pose tells when its observation was taken.
        poses = [messages.pose((time, 0.0, 0.3)) for _ in range(4)]
        chunk = messages.make(
            "vla_msgs/msg/ActionChunk",
            header=messages.header(round(time * NS), "panda_link0"),
            step_dt=PERIOD,
            poses=poses,
            gripper_opening=np.full(4, 0.03),
        )
        add(time + 0.08, "/policy/action_chunk", chunk)
    writer = EpisodeWriter(path, info, definitions=messages.definitions, images=images)
    for stamp, topic, message in sorted(events, key=lambda event: event[0]):
        writer.write(topic, message.__msgtype__, messages.cdr(message), stamp)
    return writer.close(EpisodeOutcome(outcome, "simulator"))


def arm_urdf() -> str:
    """An arm of seven joints that turn about z and y in turns."""
    inertia = (
        '<inertial><mass value="1"/>'
        '<inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial>'
    )
    parts = [f'<link name="panda_link0">{inertia}</link>']
    for number, joint in enumerate(JOINTS, 1):
        link = f"panda_link{number}"
        axis = "0 0 1" if number % 2 else "0 1 0"
        parts.append(
            f'<link name="{link}">{inertia}</link><joint name="{joint}" type="revolute">'
            f'<parent link="panda_link{number - 1}"/><child link="{link}"/>'
            f'<origin xyz="0 0 0.12"/><axis xyz="{axis}"/>'
            '<limit lower="-2.8" upper="2.8" velocity="2" effort="50"/></joint>'
        )
    parts.append(
        '<link name="panda_hand_tcp"/><joint name="tcp" type="fixed"><parent link="panda_link7"/>'
        '<child link="panda_hand_tcp"/><origin xyz="0 0 0.1"/></joint>'
    )
    return f"<robot name='arm'>{''.join(parts)}</robot>"
