# SPDX-License-Identifier: Apache-2.0
"""How fast recorded episodes become a dataset, and what its films lose."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from vla_data import (
    CameraContract,
    EpisodeInfo,
    EpisodeOutcome,
    EpisodeReader,
    EpisodeWriter,
    GripperContract,
    JointsContract,
    ObservationContract,
)
from vla_data.lerobot.conversion import convert
from vla_data.lerobot.dataset import Dataset
from vla_data.noise import stamped
from vla_data.rows import CONTROLLER_TOPIC, DESCRIPTION_TOPIC, OWNER_TOPIC
from vla_msgs.msg import ControlOwner
from vla_nodes import convert as messages
from vla_nodes.benches.load import controller_states, wire
from vla_sim import robots
from vla_sim.simulation import Simulation

CAMERAS = ("scene", "wrist")
CAMERA_RATE, STATE_RATE, OWNER_RATE = 30, 1000, 50  # Hz
PICTURES = 30  # of each camera; shown forth and back
NOISE = 2.0  # standard deviation of a camera's noise, of 255
SWING, SWING_RATE = 0.15, 0.5  # rad, Hz; how the arm moves before the cameras
INSTRUCTION = "pick up the red block"

Pictures = dict[str, NDArray[np.uint8]]


class ConvertBenchError(RuntimeError):
    """The bench could not be run to its end."""


@dataclass(frozen=True)
class Recorded:
    """What is converted: two cameras at 30 Hz, states at 1 kHz.

    Attributes:
        seconds: In all.
        episodes: That share them.
        width: Columns of the pictures, of 4:3.
        workers: Processes that convert.
    """

    seconds: float = 60.0
    episodes: int = 6
    width: int = 640
    workers: int = 2


def pictures(size: tuple[int, int], seed: int = 0) -> Pictures:
    """What the cameras see: the simulated arm moving, with noise that no two pictures share.

    Args:
        size: ``(height, width)``, px.
        seed: Of the noise.

    Returns:
        Camera to ``(pictures, height, width, 3)`` uint8 RGB.
    """
    height, width = size
    simulation = Simulation("panda", "pick", 1_000_003, cameras=())
    try:
        arm = [simulation.model.joint(n).qposadr[0] for n in simulation.robot.joint_names]
        still = simulation.qpos()
        random = np.random.default_rng(seed)
        found: Pictures = {}
        for camera in CAMERAS:
            drawn = np.empty((PICTURES, height, width, 3), dtype=np.uint8)
            for number in range(PICTURES):
                qpos = still.copy()
                phase = 2.0 * np.pi * SWING_RATE * number / CAMERA_RATE
                qpos[arm] += SWING * np.sin(phase + np.arange(len(arm)))
                clean = simulation.render(camera, qpos, width, height)
                noise = random.normal(0.0, NOISE, clean.shape)
                drawn[number] = np.clip(np.rint(clean + noise), 0, 255)
            found[camera] = drawn
        return found
    finally:
        simulation.close()


def contract(size: tuple[int, int]) -> ObservationContract:
    """Of the recorded arm and its cameras of ``(height, width)`` px."""
    robot = robots.get("panda")
    return ObservationContract(
        name="bench",
        base_frame=robot.base_frame,
        tool_frame=robot.tool_frame,
        cameras={n: CameraContract(f"cameras/{n}/image_raw", *size, "rgb8", 0.25) for n in CAMERAS},
        joints=JointsContract("joint_states", robot.joint_names, 0.1),
        gripper=GripperContract("joint_states", robot.finger_joint_names, 0.1),
    )


def shown(number: int) -> int:
    """Which picture a frame shows."""
    place = number % (2 * PICTURES - 2)
    return place if place < PICTURES else 2 * PICTURES - 2 - place


def write_episode(bag: Path, seconds: float, seen: Pictures) -> None:
    """Writes the bag of one episode; its clock begins at 0."""
    robot = robots.get("panda")
    names = [*robot.joint_names, *robot.finger_joint_names]
    joints = JointState(name=names, position=[0.01] * len(names), velocity=[0.0] * len(names))
    owner = ControlOwner(owner=ControlOwner.OWNER_POLICY, instruction=INSTRUCTION)
    description = String(data=robot.urdf_xml)
    frames = {
        camera: [wire(messages.to_image(0, camera, one)) for one in drawn]
        for camera, drawn in seen.items()
    }
    joints_data, owner_data = wire(joints), wire(owner)
    states = controller_states(robot.base_frame, robot.tool_frame, robot.joint_names)
    info = EpisodeInfo(bag.name, "bench", "pick", 0, INSTRUCTION)
    with EpisodeWriter(bag, info, drop_when_full=False) as writer:

        def write(topic: str, kind: str, data: bytes, stamp_ns: int) -> None:
            writer.write(f"/{topic}", kind, data, stamp_ns)

        write(DESCRIPTION_TOPIC, "std_msgs/msg/String", wire(description), 0)
        shots = 0
        for tick in range(round(seconds * STATE_RATE)):
            now = tick * 1_000_000_000 // STATE_RATE
            state = stamped(states[tick % len(states)], now)
            write(CONTROLLER_TOPIC, "vla_msgs/msg/ControllerState", state, now)
            write("joint_states", "sensor_msgs/msg/JointState", stamped(joints_data, now), now)
            if tick % (STATE_RATE // OWNER_RATE) == 0:
                write(OWNER_TOPIC, "vla_msgs/msg/ControlOwner", stamped(owner_data, now), now)
            if tick * CAMERA_RATE >= shots * STATE_RATE:
                for camera, data in frames.items():
                    topic = f"cameras/{camera}/image_raw"
                    frame = stamped(data[shown(shots)], now)
                    write(topic, "sensor_msgs/msg/Image", frame, now)
                shots += 1
        writer.close(EpisodeOutcome("success", "simulator"))


def run(what: Recorded, folder: Path, tell: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Records and converts.

    Args:
        what: Is recorded.
        folder: Receives the bags and the dataset.
        tell: Called after each bag and after the conversion.

    Returns:
        Figures; see ``docs/benchmarks.md``.
    """
    size = (what.width * 3 // 4, what.width)
    seen = pictures(size)
    bags = [folder / f"bag_{number}" for number in range(what.episodes)]
    for bag in bags:
        write_episode(bag, what.seconds / what.episodes, seen)
        tell()
    began = _processor_seconds()
    made = convert(bags, folder / "dataset", contract(size), workers=what.workers)
    used = _processor_seconds() - began
    tell()
    if made.skipped:
        raise ConvertBenchError(f"not all could be converted: {made.skipped}")
    losses = list(_losses(bags[0], made.folder, seen))
    return {
        "conversion_over_real_time_ratio": made.converted_s / made.elapsed_s,
        "conversion_cpu_over_recorded_ratio": used / made.converted_s,
        "recorded_s": made.converted_s,
        "recorded_mb": sum(f.stat().st_size for bag in bags for f in bag.glob("*.mcap")) / 1e6,
        "films_mb": sum(f.stat().st_size for f in made.folder.glob("videos/**/*.mp4")) / 1e6,
        "film_psnr_min_db": min(losses),
        "film_psnr_p50_db": float(np.median(losses)),
    }


def _processor_seconds() -> float:
    """Processor time of this process and of those that it has waited for, s."""
    usages = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _losses(bag: Path, dataset: Path, seen: Pictures) -> Iterator[float]:
    """PSNR of the frames of the first episode's films, dB."""
    made = Dataset(dataset)
    with EpisodeReader(bag) as reader:
        for camera, drawn in seen.items():
            stamps = reader.header_stamps(reader.find_topic(f"cameras/{camera}/image_raw"))
            for stamp_ns, frame in zip(made.stamps(0), made.frames(0, camera), strict=True):
                yield psnr(frame, drawn[shown(stamps.index(stamp_ns))])


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """How alike two pictures are, dB."""
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return 10.0 * float(np.log10(255.0**2 / error)) if error else float("inf")
