# SPDX-License-Identifier: Apache-2.0
"""Marked commands run, every `vla` command of the pages parses, what the README names exists."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest
from repository import ROOT

from vla_nodes.commands.cli import make_parser

README = (ROOT / "README.md").read_text()
PAGES = (README, (ROOT / "docs" / "recording.md").read_text())
COMMANDS = [
    line.split("  #")[0].strip()
    for page in PAGES
    for block in re.findall(r"<!-- tested -->\n```bash\n(.*?)```", page, re.S)
    for line in block.splitlines()
    if line.strip()
]


WRITTEN = sorted(
    {
        line.split("  #")[0].strip()
        for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.S)
        for line in block.replace("\\\n", " ").splitlines()
        if re.match(r"(\S*/)?vla\s", line)
    }
)


@pytest.mark.parametrize("command", WRITTEN)
def test_every_written_command_is_one_that_vla_takes(command: str) -> None:
    arguments = shlex.split(command)[1:]
    if "--help" in arguments:
        with pytest.raises(SystemExit, match="0"):
            make_parser().parse_args(arguments)
    else:
        make_parser().parse_args(arguments)


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
