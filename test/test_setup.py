# SPDX-License-Identifier: Apache-2.0
"""The set-up does its work once, again after a change, and never believes a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from fingerprint import fingerprint
from patch_wheels import patch


def script(path: Path, text: str) -> None:
    """Writes an executable bash script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A copy of the build scripts around a colcon that only counts its calls."""
    (tmp_path / "scripts").mkdir()
    for name in ("build.sh", "env.sh", "fingerprint.py"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts")
    script(tmp_path / "scripts" / "setup.sh", "exit 0")
    (tmp_path / "colcon.meta").write_text("names: {}\n")
    (tmp_path / "src" / "vla_msgs").mkdir(parents=True)
    (tmp_path / "src" / "vla_msgs" / "A.msg").write_text("bool a\n")
    (tmp_path / ".venv" / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (tmp_path / ".venv" / ".complete").write_text("1")
    script(tmp_path / ".venv" / "bin" / "python", f'exec {sys.executable} "$@"')
    set_colcon(tmp_path, "exit 0")
    return tmp_path


def set_colcon(workspace: Path, last_line: str) -> None:
    script(
        workspace / ".venv" / "bin" / "colcon",
        f'echo "$PWD" >> calls\nmkdir -p install\n{last_line}',
    )


def build(workspace: Path) -> int:
    environment = {"PATH": os.environ["PATH"], "HOME": str(workspace)}
    command = [str(workspace / "scripts" / "build.sh")]
    return subprocess.run(command, env=environment, timeout=60, check=False).returncode


def calls(workspace: Path) -> int:
    log = workspace / "calls"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_second_build_does_nothing(workspace: Path) -> None:
    assert build(workspace) == 0
    assert build(workspace) == 0
    assert calls(workspace) == 1


def test_a_failed_build_is_tried_again(workspace: Path) -> None:
    set_colcon(workspace, "exit 1")
    assert build(workspace) != 0
    assert build(workspace) != 0
    assert calls(workspace) == 2


def test_a_failure_after_a_good_build_leaves_no_stamp(workspace: Path) -> None:
    assert build(workspace) == 0
    (workspace / "src" / "vla_msgs" / "A.msg").write_text("bool b\n")
    set_colcon(workspace, "exit 1")
    assert build(workspace) != 0
    # Back at the sources that were built before: what lies in install is not theirs any more.
    (workspace / "src" / "vla_msgs" / "A.msg").write_text("bool a\n")
    set_colcon(workspace, "exit 0")
    assert build(workspace) == 0
    assert calls(workspace) == 3


def test_new_wheels_mean_a_new_build(workspace: Path) -> None:
    assert build(workspace) == 0
    (workspace / ".venv" / ".complete").write_text("2")
    assert build(workspace) == 0
    assert calls(workspace) == 2


def test_fingerprint_follows_what_a_build_depends_on(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "test").mkdir(parents=True)
    (package / "core.cpp").write_text("1")
    (package / "linked.py").write_text("1")
    (package / "setup.py").write_text("1")
    prints = [fingerprint([str(package)])]

    def changed() -> bool:
        prints.append(fingerprint([str(package)]))
        return prints[-1] != prints[-2]

    assert not changed()
    (package / "linked.py").write_text("2")
    assert not changed()
    (package / "test" / "test_new.py").write_text("1")
    assert not changed()
    (package / "core.cpp").write_text("2")
    assert changed()
    (package / "setup.py").write_text("2")
    assert changed()
    (package / "new.py").write_text("")
    assert changed()


def test_patched_wheels_name_this_python(tmp_path: Path) -> None:
    export = tmp_path / "share" / "some_msgs" / "cmake" / "exportExport.cmake"
    export.parent.mkdir(parents=True)
    export.write_text(
        '"/opt/python/cp311-cp311/include/python3.11;'
        '/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include"'
    )
    assert patch(tmp_path) == [export]
    for folder in export.read_text().strip('"').split(";"):
        assert Path(folder).is_dir()
    assert patch(tmp_path) == []


def test_an_unknown_foreign_folder_is_an_error(tmp_path: Path) -> None:
    export = tmp_path / "share" / "some_msgs" / "cmake" / "exportExport.cmake"
    export.parent.mkdir(parents=True)
    export.write_text('"/opt/python/cp311-cp311/share/other"')
    with pytest.raises(RuntimeError, match="not on this machine"):
        patch(tmp_path)


def source_environment(variables: dict[str, str], command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f". {ROOT}/scripts/env.sh && {command}"],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_environment_keeps_what_was_set() -> None:
    result = source_environment(
        {"MUJOCO_GL": "osmesa", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"},
        'echo "$MUJOCO_GL $ROS_AUTOMATIC_DISCOVERY_RANGE"',
    )
    assert result.stdout.split() == ["osmesa", "SUBNET"]


def test_environment_stays_on_this_machine_by_default() -> None:
    result = source_environment(
        {}, 'echo "$ROS_AUTOMATIC_DISCOVERY_RANGE $FASTDDS_DEFAULT_PROFILES_FILE"'
    )
    reach, profile = result.stdout.split()
    assert reach == "LOCALHOST"
    assert Path(profile) == ROOT / "config" / "fastdds.xml"


def test_environment_can_be_sourced_twice() -> None:
    once = source_environment({}, 'echo "$LD_LIBRARY_PATH"')
    twice = source_environment({}, f'. {ROOT}/scripts/env.sh && echo "$LD_LIBRARY_PATH"')
    assert once.stdout == twice.stdout != ""


def test_environment_refuses_to_mix_with_a_distribution() -> None:
    result = source_environment({"ROS_DISTRO": "jazzy"}, "echo sourced")
    assert result.returncode != 0
    assert "sourced" not in result.stdout
    assert "colcon build" in result.stderr


def test_missing_debian_packages_are_one_line_to_paste(tmp_path: Path) -> None:
    script(
        tmp_path / "bin" / "dpkg-query", 'case "$*" in *libegl1) exit 1 ;; esac; echo -n installed'
    )
    script(tmp_path / "bin" / "id", "echo 1000")
    result = subprocess.run(
        [str(ROOT / "scripts" / "setup.sh")],
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode != 0
    assert "sudo apt-get update && sudo apt-get install -y libegl1\n" in result.stderr
