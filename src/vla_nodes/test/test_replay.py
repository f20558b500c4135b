# SPDX-License-Identifier: Apache-2.0
"""A recorded episode runs once more: through the controller, through the policy, from its films."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from std_msgs.msg import String

from vla_data import EpisodeInfo, EpisodeOutcome, EpisodeReader, EpisodeWriter
from vla_data.episode_reader import EpisodeReadError
from vla_data.lerobot.conversion import convert as convert_bags
from vla_data.lerobot.dataset import Dataset
from vla_data.rows import read_rows, recorded_cameras, survey
from vla_msgs.msg import ActionChunk, ControlOwner, EpisodeEvent
from vla_nodes import convert
from vla_nodes.benches.load import wire
from vla_nodes.commands import cli
from vla_nodes.configs import PolicyConfig
from vla_nodes.inference.setup import robot_contract
from vla_nodes.parameters import defaults, from_mapping
from vla_nodes.recording.replay import ReplayError, drawn_suite, replay_control, replay_policy
from vla_policy import load_policy
from vla_sim.simulation import Simulation

OFFSET = 10_000_000_000  # ns, of the bag's clock before that of the simulation
SEED, RATE = 1_000_003, 20
SIMULATED = 1.6  # s
SECOND = 1_000_000_000


class Recorder:
    """Writes what a system would record of a simulation in lockstep."""

    def __init__(self, sim: Simulation, bag: Path, source: str) -> None:
        self.sim = sim
        info = EpisodeInfo(bag.name, source, sim.task, sim.seed, sim.instruction)
        self.writer = EpisodeWriter(bag, info)
        self.tell("robot_description", "std_msgs/msg/String", String(data=sim.robot.urdf_xml))

    @property
    def now_ns(self) -> int:
        return OFFSET + self.sim.time_ns

    def tell(self, topic: str, kind: str, message: Any) -> None:
        self.writer.write(f"/{topic}", kind, wire(message), self.now_ns)

    def pre_roll(self) -> None:
        """Another scene, half a second before this one: the arm elsewhere, and a chunk."""
        before_ns = self.now_ns - SECOND // 2
        state, chunk = self.controller_state(), ActionChunk()
        state.header.stamp = chunk.header.stamp = convert.to_time(before_ns)
        state.pose_tool_in_base.position.x += 0.1
        for topic, message in (("controller/state", state), ("controller/action_chunk", chunk)):
            kind = f"vla_msgs/msg/{type(message).__name__}"
            self.writer.write(f"/{topic}", kind, wire(message), before_ns)

    def start(self) -> None:
        event = EpisodeEvent(header=convert.header(self.now_ns), event=EpisodeEvent.START)
        event.episode_id = self.writer.info.episode_id
        self.tell("episode/events", "vla_msgs/msg/EpisodeEvent", event)

    def controller_state(self) -> Any:
        robot = self.sim.robot
        return convert.to_controller_state(
            self.sim.controller.state(),
            self.now_ns,
            robot.base_frame,
            robot.tool_frame,
            robot.joint_names,
        )

    def states(self) -> None:
        sim, robot = self.sim, self.sim.robot
        names = (*robot.joint_names, *robot.finger_joint_names)
        snapshot = sim.cycle_snapshot()
        position = [snapshot.qpos[sim.model.joint(name).qposadr[0]] for name in names]
        velocity = [snapshot.qvel[sim.model.joint(name).dofadr[0]] for name in names]
        joints = convert.to_joint_state(self.now_ns, names, position, velocity)
        self.tell("joint_states", "sensor_msgs/msg/JointState", joints)
        self.tell("controller/state", "vla_msgs/msg/ControllerState", self.controller_state())

    def owner(self) -> None:
        message = ControlOwner(header=convert.header(self.now_ns), boot_id=1, grant=1)
        message.owner, message.instruction = ControlOwner.OWNER_POLICY, self.sim.instruction
        self.sim.controller.heartbeat(1, 1, self.sim.time_ns)
        self.tell("control_owner", "vla_msgs/msg/ControlOwner", message)

    def task(self, suite: str) -> None:
        status = convert.to_task_status(
            self.now_ns,
            episode_id="1",
            task=self.sim.task,
            suite=suite,
            seed=self.sim.seed,
            success=False,
            elapsed=0.0,
            details="",
        )
        self.tell("task/status", "vla_msgs/msg/TaskStatus", status)

    def images(self, pictures: dict[str, Any]) -> None:
        for camera, rgb in pictures.items():
            message = convert.to_image(self.now_ns, f"{camera}_optical_frame", rgb)
            self.tell(f"cameras/{camera}/image_raw", "sensor_msgs/msg/Image", message)


def record(
    bag: Path,
    policy: Any,
    *,
    forget: bool = False,
    pre_roll: bool = False,
    source: str = "sim_franka",
) -> Path:
    """Records a policy at work; ``forget`` leaves what the controller was given out of the bag."""
    sim = Simulation("panda", "pick", SEED, controller_overrides={"heartbeat_timeout_s": 0.5})
    robot, recorder = sim.robot, Recorder(sim, bag, source)
    if pre_roll:
        recorder.pre_roll()
    recorder.start()
    recorder.task("basic")
    frames = {"base_frame": robot.base_frame, "tool_frame": robot.tool_frame}
    policy.reset(0)
    waiting: list[Any] = []
    for cycle in range(round(SIMULATED * 100)):
        recorder.owner()
        recorder.states()
        if cycle % 5 == 0:
            seen = sim.observe()
            recorder.images(seen.images)
            if cycle % 40 == 10:
                seen = replace(seen, stamp_ns=recorder.now_ns)
                chunk = policy.act(policy.encode(seen), seen)
                message = convert.to_action_chunk(
                    chunk,
                    **frames,
                    joint_names=robot.joint_names,
                    sequence=cycle + 1,
                    instruction_id=1,
                )
                message.boot_id, message.grant = 1, 1
                waiting.append((cycle + 10, message))
        if waiting and waiting[0][0] == cycle:
            message = waiting.pop(0)[1]
            kind = "vla_msgs/msg/ActionChunk"
            recorder.tell("policy/action_chunk", kind, message)
            if not forget or cycle < 70:
                recorder.tell("controller/action_chunk", kind, message)
            own = convert.from_action_chunk(message, **frames)
            own.stamp_ns -= OFFSET
            sim.push_chunk(own)
        sim.advance(0.01)
    sim.close()
    return recorder.writer.close(EpisodeOutcome("failure", "timeout"))


@pytest.fixture(scope="module")
def policy() -> Any:
    return load_policy(None)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory, policy: Any) -> Path:
    return record(tmp_path_factory.mktemp("bags") / "episode", policy)


@pytest.fixture(scope="module")
def contract(bag: Path) -> Any:
    config = from_mapping(PolicyConfig, defaults("policy_node"))
    with EpisodeReader(bag) as reader:
        return robot_contract("sim_franka", config, recorded_cameras(reader, 0.25))


def test_the_controller_goes_the_same_way_again(bag: Path) -> None:
    done = replay_control(bag)
    assert done.chunks == 4
    assert done.rejected == {}
    assert len(done.times) == round(SIMULATED * 100)
    # The same chunks at the same times; measured: 0.4 mm, where a missing chunk makes centimetres.
    assert done.distances.max() < 1e-3


@pytest.mark.parametrize("suite", ["dim", "", None])
def test_the_bag_says_how_its_scene_was_drawn(tmp_path: Path, suite: str | None) -> None:
    sim = Simulation("panda", "pick", SEED, cameras=(), suite="dim")
    recorder = Recorder(sim, tmp_path / "episode", "sim_franka")
    recorder.states()
    if suite is not None:
        recorder.task(suite)
    with closing(sim), EpisodeReader(recorder.writer.close()) as reader:
        if suite:
            assert drawn_suite(reader) == suite
        else:
            with pytest.raises(
                (ReplayError, EpisodeReadError), match=r"task/status|name the suite"
            ):
                drawn_suite(reader)


def test_what_was_recorded_before_the_start_is_left_out(tmp_path: Path, policy: Any) -> None:
    bag = record(tmp_path / "episode", policy, pre_roll=True)
    with EpisodeReader(bag) as reader:
        assert reader.start_ns is not None
        assert reader.start_ns < OFFSET
    done = replay_control(bag)
    assert (done.chunks, len(done.times)) == (4, round(SIMULATED * 100))
    assert done.distances.max() < 1e-3


def test_a_chunk_that_is_missing_shows(tmp_path: Path, policy: Any) -> None:
    done = replay_control(record(tmp_path / "episode", policy, forget=True))
    assert done.chunks == 2
    assert done.distances.max() > 5e-3


def test_the_policy_says_the_same_of_the_recorded_pictures(
    bag: Path, contract: Any, policy: Any
) -> None:
    policy.reset(0)
    policy.encode(Simulation("panda", "pick", SEED).observe())  # as if it had worked before
    done = replay_policy(bag, contract, policy)
    assert len(done.stamps_ns) == 4
    # The observations are equal bit by bit; a chunk's quaternions pass through messages.
    assert done.differences.max() < 1e-6
    assert done.openings.max() < 1e-6


def test_films_change_chunks_by_little(
    bag: Path, contract: Any, policy: Any, tmp_path: Path
) -> None:
    made = Dataset(convert_bags([bag], tmp_path / "set", contract, workers=1).folder)
    films = {camera: list(made.frames(0, camera)) for camera in contract.cameras}
    forward = Simulation("panda", "pick", SEED, cameras=()).kinematics.forward_kinematics
    differences, psnr = [], []
    with EpisodeReader(bag) as reader:
        rows = read_rows(reader, contract, survey(reader, contract), RATE, forward)
        for number, row in enumerate(rows):
            raw = row.observation
            film = replace(raw, images={name: films[name][number] for name in films})
            for name in films:
                error = film.images[name].astype(float) - raw.images[name]
                psnr.append(10 * np.log10(255.0**2 / np.mean(error**2)))
            if number % 4:
                continue
            chunks = []
            for one in (raw, film):
                policy.reset(0)  # the same noise for both
                chunks.append(policy.act(policy.encode(one), one))
            one, two = (chunk.poses_tool_in_base[:, :3, 3] for chunk in chunks)
            differences.append(np.linalg.norm(one - two, axis=1).mean())
    print(f"PSNR {np.min(psnr):.1f} dB at least, {np.median(psnr):.1f} dB at the median")
    print(f"chunks: {1e3 * np.median(differences):.2f} mm, {1e3 * np.max(differences):.2f} mm")
    # Measured: see docs/data.md.
    assert np.min(psnr) > 37.0
    assert np.median(differences) < 2e-3


@pytest.mark.parametrize("form", ["jpeg", "h264"])
def test_compressed_images_change_chunks_by_little(
    bag: Path, contract: Any, policy: Any, tmp_path: Path, form: str
) -> None:
    copy = tmp_path / form
    with EpisodeReader(bag) as reader, EpisodeWriter(copy, reader.info, images=form) as writer:
        for each in reader.raw_messages():
            writer.write(each.topic, each.type_name, each.data, each.log_ns)
    with EpisodeReader(copy) as reader:
        other = replace(contract, cameras=recorded_cameras(reader, 0.25))
        assert {one.encoding for one in other.cameras.values()} == {form}
        forward = Simulation("panda", "pick", SEED, cameras=()).kinematics.forward_kinematics
        lossy = list(read_rows(reader, other, survey(reader, other), RATE, forward))
    with EpisodeReader(bag) as reader:
        raw = list(read_rows(reader, contract, survey(reader, contract), RATE, forward))
    psnr = [
        10 * np.log10(255.0**2 / np.mean((image.astype(float) - two.observation.images[name]) ** 2))
        for one, two in zip(lossy, raw, strict=True)
        for name, image in one.observation.images.items()
    ]
    policy.reset(0)
    done = replay_policy(copy, other, policy)
    print(f"{form}: PSNR {np.min(psnr):.1f} dB at least, {np.median(psnr):.1f} dB at the median")
    print(f"chunks: {1e3 * np.median(done.differences):.2f}, {1e3 * done.differences.max():.2f} mm")
    # Measured: see docs/recording.md.
    assert np.min(psnr) > {"jpeg": 30.0, "h264": 38.0}[form]
    assert 0.0 < np.median(done.differences) < 2e-3


def figures_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, float]:
    capsys.readouterr()
    assert cli.main([*arguments, "--json"]) == 0
    found: dict[str, float] = json.loads(capsys.readouterr().out)["figures"]
    return found


def test_the_commands_convert_replay_and_show_an_episode(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    found = figures_of(capsys, "convert", str(bag.parent), "--to", "lerobot", "--out", str(out))
    assert (found["episodes_count"], found["skipped_count"], found["rate_hz"]) == (1, 0, RATE)
    assert found["rows_count"] == len(Dataset(out).stamps(0)) > 20
    found = figures_of(capsys, "replay", str(bag))
    assert found["chunks_count"] == 4
    assert found["rejected_count"] == 0
    assert found["tracking_difference_max_mm"] < 1.0
    found = figures_of(capsys, "replay", str(bag), "--policy", "nano_pi0")
    assert found["chunks_count"] == 4
    assert found["chunk_difference_max_mm"] < 1e-3
    assert cli.main(["bag", "view", str(bag), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").stat().st_size > 50_000


def test_the_commands_name_what_is_wrong(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    gone = str(tmp_path / "gone")
    for arguments, problem in (
        (["convert", gone, "--out", str(tmp_path / "set")], "is neither a bag nor a folder"),
        (["convert", str(bag), "--out", str(tmp_path)], f"{tmp_path} exists"),
        (["convert", str(bag), "--out", gone, "--workers", "0"], "workers is 0; valid: 1 to 1000"),
        (["convert", str(bag), "--out", gone, "--system", "moon"], "moon"),
        (["replay", gone], "does not exist"),
        (["replay", str(bag), "--policy", gone], "gone"),
        (["bag", "view", gone], "does not exist"),
        (["bag", "view", str(bag), "--rerun"], "pip install rerun-sdk"),
    ):
        assert cli.main(arguments) == 1, arguments
        assert problem in capsys.readouterr().err, arguments
    with pytest.raises(SystemExit):
        cli.main(["convert", str(bag), "--out", gone, "--codec", "vp9"])


def test_what_cannot_be_replayed_is_refused(tmp_path: Path, messages_of_another_arm: Path) -> None:
    with pytest.raises(ReplayError, match="no simulated arm has the joints a, b; there are panda"):
        replay_control(messages_of_another_arm)


@pytest.fixture
def messages_of_another_arm(tmp_path: Path) -> Path:
    from vla_msgs.msg import ActionChunk, ControllerState

    writer = EpisodeWriter(tmp_path / "other", EpisodeInfo("other"))
    for topic, message in (
        ("controller/state", ControllerState(joint_names=["a", "b"])),
        ("controller/action_chunk", ActionChunk()),
        ("control_owner", ControlOwner()),
    ):
        kind = f"vla_msgs/msg/{type(message).__name__}"
        writer.write(f"/{topic}", kind, wire(message), OFFSET)
    return writer.close(EpisodeOutcome())
