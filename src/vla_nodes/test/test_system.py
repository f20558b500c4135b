# SPDX-License-Identifier: Apache-2.0
"""System descriptions and parameters: what is wrong is named, and what is valid too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vla_nodes.configs import SCHEMAS, SupervisorConfig
from vla_nodes.parameters import ParameterError, defaults, from_mapping
from vla_nodes.system import description as system
from vla_nodes.system.description import SystemDescriptionError, load_system, prepared

CONFIG = Path(__file__).parents[3] / "config"

GOOD = """
description: a test
clock: simulation
nodes:
  - {name: sim, executable: sim_node, required: true}
  - {name: camera, executable: camera_node, lifecycle: true, remaps: {a: b}}
  - {name: recorder, executable: recorder_node, lifecycle: true}
  - {name: supervisor, executable: supervisor_node}
  - {name: manager, executable: lifecycle_manager}
demo: {tasks: [pick], time_limit: 9}
"""


def write(folder: Path, text: str) -> str:
    (folder / "system.yaml").write_text(text, encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("executable", sorted(SCHEMAS))
def test_the_defaults_of_every_node_are_complete_and_valid(executable: str) -> None:
    from_mapping(SCHEMAS[executable], defaults(executable))


@pytest.mark.parametrize(
    "folder", sorted(CONFIG.glob("*/system.yaml")), ids=lambda p: p.parent.name
)
def test_committed_systems_are_valid(folder: Path) -> None:
    loaded = load_system(str(folder.parent))
    assert loaded.entry(system.SUPERVISOR) is not None


def test_the_manager_gets_the_lifecycle_nodes_in_order(tmp_path: Path) -> None:
    loaded = load_system(write(tmp_path, GOOD))
    manager = loaded.entry(system.MANAGER)
    assert manager is not None
    assert manager.values()["node_names"] == ["/camera", "/recorder"]
    without = prepared(loaded, record=None)
    assert without.entry(system.RECORDER) is None
    manager = without.entry(system.MANAGER)
    assert manager is not None
    assert manager.values()["node_names"] == ["/camera"]


def test_recording_makes_the_supervisor_wait_longer_than_the_recorder(tmp_path: Path) -> None:
    loaded = prepared(load_system(write(tmp_path, GOOD)), record=tmp_path / "bags")
    recorder, supervisor = loaded.entry(system.RECORDER), loaded.entry(system.SUPERVISOR)
    assert recorder is not None
    assert supervisor is not None
    assert recorder.values()["directory"] == str(tmp_path / "bags")
    assert supervisor.values()["recorder_timeout"] > recorder.values()["start_timeout"]


WATCHED = GOOD.replace(
    "  - {name: supervisor",
    "  - {name: policy, executable: policy_node, lifecycle: true}\n"
    "  - {name: failure, executable: failure_node, lifecycle: true}\n  - {name: supervisor",
)


def watched_by(loaded: system.System) -> tuple[str, float]:
    """The detector that watches, empty = none, and how long the supervisor bears its silence."""
    entry, supervisor = loaded.entry(system.FAILURE), loaded.entry(system.SUPERVISOR)
    assert supervisor is not None
    return entry.values()["detector"] if entry else "", supervisor.values()["detector_timeout"]


def test_a_detector_that_is_given_is_required(tmp_path: Path) -> None:
    loaded = load_system(write(tmp_path, WATCHED))
    assert watched_by(prepared(loaded)) == ("", 0.0)
    found = prepared(loaded, detector=str(tmp_path))
    assert watched_by(found) == (str(tmp_path), 1.0)
    manager, failure = found.entry(system.MANAGER), found.entry(system.FAILURE)
    assert manager is not None
    assert "/failure" in manager.values()["node_names"]
    assert failure is not None
    assert failure.values()["allow_uncalibrated"] is False
    wished = prepared(loaded, detector=str(tmp_path), uncalibrated=True).entry(system.FAILURE)
    assert wished is not None
    assert wished.values()["allow_uncalibrated"] is True


def test_a_console_is_served_where_it_is_asked_for(tmp_path: Path) -> None:
    loaded = load_system(write(tmp_path, WATCHED))
    assert prepared(loaded).entry(system.CONSOLE) is None
    console = prepared(loaded, console=True).entry(system.CONSOLE)
    assert console is not None
    assert not console.values()["lan"]


def test_a_detector_that_lies_in_the_checkpoint_is_taken_if_it_is_calibrated(
    tmp_path: Path,
) -> None:
    loaded = load_system(write(tmp_path, WATCHED))
    beside = tmp_path / "checkpoint" / system.DETECTOR_FOLDER
    beside.mkdir(parents=True)
    policy = {system.POLICY: {"checkpoint": str(beside.parent)}}
    assert watched_by(prepared(loaded, detector="", overrides=policy)) == ("", 0.0)
    (beside / system.CALIBRATION).touch()
    assert watched_by(prepared(loaded, detector="", overrides=policy)) == (str(beside), 1.0)
    assert watched_by(prepared(loaded, detector="none", overrides=policy)) == ("", 0.0)
    other = {system.POLICY: {"checkpoint": "scripted/circle"}}
    assert watched_by(prepared(loaded, detector="", overrides=other)) == ("", 0.0)
    assert system.checkpoint_folder("nano_pi0").is_dir(), "a committed one goes by its name"


def test_a_detector_that_cannot_watch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemDescriptionError, match="no folder of a failure detector at '/nope'"):
        prepared(load_system(write(tmp_path, WATCHED)), detector="/nope")
    with pytest.raises(SystemDescriptionError, match="has no failure_node"):
        prepared(load_system(write(tmp_path, GOOD)), detector=str(tmp_path))
    assert watched_by(prepared(load_system(write(tmp_path, GOOD)), detector="")) == ("", 0.0)


def test_command_line_of_a_node(tmp_path: Path) -> None:
    loaded = load_system(write(tmp_path, GOOD))
    command = loaded.nodes[1].command()
    assert command[1:3] == ["-m", "vla_nodes.camera_node"]
    assert "a:=b" in command
    assert "use_sim_time:=true" in command
    assert "use_sim_time:=false" in loaded.nodes[0].command(), "the clock's own source"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("clock: simulation", "clock: sundial"), "choices: simulation, system"),
        (("required: true", "requird: true"), "unknown key requird; valid: name, executable"),
        (("sim_node", "sim_nod"), "no executable 'sim_nod' in vla_nodes; there are camera_node"),
        (("name: camera", "name: recorder"), "two nodes have the same name"),
        (("lifecycle: true, remaps", "lifecycle: 3, remaps"), "lifecycle must be a bool"),
        (("time_limit: 9", "time_limit: soon"), "time_limit must be a float"),
        (("description: a test", ""), "description is missing"),
        (("remaps: {a: b}", "parameter_files: [none.yaml]"), "no parameter file"),
        (("nodes:", "nodes: [\nnodez:"), "system.yaml"),
    ],
)
def test_errors_name_the_value_and_what_is_valid(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    assert change[0] in GOOD
    with pytest.raises(SystemDescriptionError) as caught:
        load_system(write(tmp_path, GOOD.replace(*change)))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heartbeat_rate": 1000.0}, r"valid range: \[5.0, 100.0\]"),
        ({"heartbeat_rate": float("nan")}, "finite"),
        ({"heartbeat_rate": "fast"}, "must be of type float"),
        (
            {"heartbeat_rat": 20.0},
            "unknown parameter heartbeat_rat; SupervisorConfig has heartbeat",
        ),
    ],
)
def test_parameter_errors(values: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        from_mapping(SupervisorConfig, {**defaults("supervisor_node"), **values})


def test_a_missing_parameter_is_named() -> None:
    values = defaults("supervisor_node")
    del values["policy_timeout"]
    with pytest.raises(ParameterError, match="lacks a value for policy_timeout"):
        from_mapping(SupervisorConfig, values)


def test_parameter_files_are_checked_against_the_node(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("/**:\n  ros__parameters: {camera_rat: 3.0}\n")
    text = GOOD.replace("required: true", "required: true, parameter_files: [bad.yaml]")
    with pytest.raises(SystemDescriptionError, match="unknown parameter camera_rat"):
        load_system(write(tmp_path, text))


def test_an_unknown_system_lists_the_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLA_CONFIG_PATH", str(CONFIG))
    with pytest.raises(SystemDescriptionError, match="sim_franka"):
        load_system("sim_franca")


def test_the_description_and_the_command_line_import_nothing_heavy() -> None:
    code = (
        "import sys; import vla_nodes.system.description; from vla_nodes.commands import cli;"
        "cli.make_parser();"
        "heavy = {'rclpy', 'numpy', 'torch', 'mujoco', 'vla_sim', 'rich'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
