# SPDX-License-Identifier: Apache-2.0
"""`vla up`: one command from nothing to a report, and back to nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vla_data.episode_reader import EpisodeReader
from vla_nodes.system.description import find_system

ENDED = 150.0  # s, on a busy machine

pytestmark = pytest.mark.timeout(240)

Start = Callable[..., "subprocess.Popen[str]"]
VLA = [sys.executable, "-m", "vla_nodes.commands.cli"]


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `vla up` in a folder of its own, as a shell would; ends it with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(folder: Path, domain: int, *arguments: str) -> subprocess.Popen[str]:
        started.append(launch(folder, domain, *arguments))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def launch(folder: Path, domain: int, *arguments: str) -> subprocess.Popen[str]:
    """The process."""
    return subprocess.Popen(
        [*VLA, "up", *arguments],
        cwd=folder,
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if f"\nPPid:\t{pid}\n" in text:
            found.append(int(status.parent.name))
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def wait_for(predicate: Callable[[], bool], what: str, timeout: float) -> None:
    """Waits until a predicate holds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(0.1)


def test_an_episode_with_bag_report_and_json(start: Start, tmp_path: Path, domain: int) -> None:
    process = start(
        tmp_path,
        domain + 1,
        *("sim_franka", "--episodes", "1", "--task", "touch", "--policy", "scripted/circle"),
        *("--time-limit", "5", "--record", "bags", "--report", "report", "--json"),
    )
    out, err = process.communicate(timeout=ENDED)
    assert process.returncode == 0, err
    printed = json.loads(out)
    assert set(printed) == {"figures", "settings", "versions", "machine"}
    figures = printed["figures"]
    assert figures["episodes_count"] == 1
    assert figures["drops_count"] == 0
    assert figures["respawns_count"] == 0
    assert figures["chunk_age_p50_ms"] > 0
    bags = [path for path in (tmp_path / "bags").iterdir() if (path / "metadata.yaml").is_file()]
    assert len(bags) == 1
    assert (tmp_path / "report" / "run.json").is_file()
    assert (tmp_path / "report" / "report.json").is_file()
    assert list((tmp_path / "report").rglob("*.mp4"))
    assert "not done within 5 s" in err


def test_an_expert_demonstrates_in_a_dim_scene_and_lets_go(
    start: Start, tmp_path: Path, domain: int
) -> None:
    command = [*VLA, "teleop", "--expert", "demonstrates"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain + 8)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as expert:
        process = start(
            tmp_path,
            domain + 8,
            *("sim_franka", "--episodes", "1", "--task", "touch", "--policy", "scripted/circle"),
            *("--suite", "dim", "--speed", "0.3", "--record", "bags", "--json"),
        )
        try:
            out, err = process.communicate(timeout=ENDED)
        finally:
            expert.send_signal(signal.SIGINT)
        told, _ = expert.communicate(timeout=ENDED)
    assert process.returncode == 0, err
    assert "1 episodes, 1 of them by the expert" in told
    assert json.loads(out)["figures"]["drops_count"] == 0
    log = next((tmp_path / "runs").glob("*/processes.log")).read_text()
    assert log.index("granted to expert") < log.index("expert has let go")
    (bag,) = (path for path in (tmp_path / "bags").iterdir() if path.is_dir())
    assert "-touch-dim-" in bag.name
    with EpisodeReader(bag) as reader:
        owners, states = (
            [one.message for one in reader.messages([reader.find_topic(topic)])]
            for topic in ("control_owner", "controller/state")
        )
    granted = {one.grant for one in owners if one.reason == "granted to expert"}
    places = [
        (place.x, place.y, place.z)
        for place in (
            one.reference_pose_tool_in_base.position for one in states if one.grant in granted
        )
    ]
    assert np.ptp(places, axis=0).max() > 0.05, "it was the expert who moved the arm"


def test_the_arm_goes_home_before_an_instruction_where_no_scene_is_laid(
    start: Start, tmp_path: Path, domain: int
) -> None:
    # The UR5's system with the supervisor of the other tests, which is patient on busy machines.
    for name in ("sim_ur5", "sim_franka"):
        shutil.copytree(find_system(name), tmp_path / name)
    shutil.copy(Path(__file__).parent / "circle_system" / "supervisor.yaml", tmp_path)
    described = tmp_path / "sim_ur5" / "system.yaml"
    patient = "supervisor_node, parameter_files: [../supervisor.yaml],"
    described.write_text(described.read_text().replace("supervisor_node,", patient))
    process = start(
        tmp_path,
        domain + 5,
        *("./sim_ur5", "--episodes", "2", "--instruction", "trace a circle", "--home"),
        *("--time-limit", "2", "--record", "bags"),
    )
    out, err = process.communicate(timeout=ENDED)
    assert process.returncode == 0, out + err
    log = next((tmp_path / "runs").glob("*/processes.log")).read_text()
    assert log.count("granted to vla move") == 2
    assert log.count("has let go") == 2
    assert len(list((tmp_path / "bags").glob("*/metadata.yaml"))) == 2


def test_ctrl_c_stops_everything_and_says_what_was_kept(
    start: Start, tmp_path: Path, domain: int
) -> None:
    process = start(
        tmp_path,
        domain + 2,
        *("sim_franka", "--episodes", "9", "--task", "touch", "--policy", "scripted/circle"),
        *("--time-limit", "60", "--record", "bags"),
    )
    wait_for(lambda: any((tmp_path / "bags").glob("*/*.mcap")), "a bag", ENDED)
    started = children(process.pid)
    assert len(started) >= 5
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=ENDED)
    assert process.returncode == 130, err
    assert "bags and log are kept" in out
    assert all(gone(pid) for pid in started)
    assert list((tmp_path / "bags").glob("*/metadata.yaml")), "the open bag was finished"


def test_a_required_process_that_dies_ends_the_system_with_its_words(
    start: Start, tmp_path: Path, domain: int
) -> None:
    process = start(
        tmp_path,
        domain + 3,
        *("sim_franka", "--episodes", "1", "--task", "touch", "--policy", "scripted/circle"),
    )

    def simulator() -> list[int]:
        return [
            pid
            for pid in children(process.pid)
            if b"vla_nodes.sim_node" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    wait_for(lambda: bool(simulator()), "the simulator", ENDED)
    os.kill(simulator()[0], signal.SIGKILL)
    _, err = process.communicate(timeout=ENDED)
    assert process.returncode == 1
    assert "sim ended by SIGKILL" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no_such_system",), "sim_franka"),
        (("sim_franka", "--episodes", "1", "--seed", "-1"), "--seed"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    start: Start, tmp_path: Path, domain: int, arguments: tuple[str, ...], words: str
) -> None:
    process = start(tmp_path, domain, *arguments)
    _, err = process.communicate(timeout=ENDED)
    assert process.returncode == 2
    assert words in err
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_that_is_not_there_is_named(start: Start, tmp_path: Path, domain: int) -> None:
    process = start(
        tmp_path, domain + 4, "sim_franka", "--episodes", "1", "--policy", str(tmp_path / "none")
    )
    _, err = process.communicate(timeout=ENDED)
    assert process.returncode == 1
    assert "not ready: /policy: no policy:" in " ".join(err.split())
    assert str(tmp_path / "none") in "".join(err.split())
