# SPDX-License-Identifier: Apache-2.0
"""The commands of README and docs/recording.md run; what the README names exists."""

from __future__ import annotations

import re
import subprocess

import pytest
from repository import ROOT

README = (ROOT / "README.md").read_text()
PAGES = (README, (ROOT / "docs" / "recording.md").read_text())
COMMANDS = [
    line.split("  #")[0].strip()
    for page in PAGES
    for block in re.findall(r"<!-- tested -->\n```bash\n(.*?)```", page, re.S)
    for line in block.splitlines()
    if line.strip()
]


@pytest.mark.parametrize("command", COMMANDS)
def test_marked_commands_run(command: str) -> None:
    run = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_some_commands_are_marked() -> None:
    assert COMMANDS


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make (\w+)", README, re.M))))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


def test_named_paths_exist() -> None:
    made_by_a_run = {"bags/", "reports/demo/", ".venv/bin/vla"}
    paths = set(re.findall(r"`((?:src|launch|config|test|scripts|docs)(?:/[\w./]+)?)`", README))
    paths |= set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README))
    assert paths
    assert {path for path in paths - made_by_a_run if not (ROOT / path).exists()} == set()


def test_every_command_of_the_table_exists() -> None:
    named = set(re.findall(r"^\| `vla (\w+)", README, re.M))
    run = subprocess.run(
        [ROOT / ".venv" / "bin" / "vla", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    offered = set(re.findall(r"^    (\w+)", run.stdout, re.M)) - {"COMMAND"}
    assert named == offered
