# SPDX-License-Identifier: Apache-2.0
"""`vla bench control --quick` prints one JSON object and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_nodes.commands import cli
from vla_sim import arms


def test_quick_table_of_one_arm(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "control", "--quick", "--robot", "panda", "--json"]
    assert cli.main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"figures", "settings", "versions", "machine"}
    figures = result["figures"]
    # The controller follows more closely than what it is compared with, on the same plant.
    assert figures["figure8_rms_mm"] < 0.5 * figures["figure8_rms_mm_baseline"]
    assert result["settings"]["rejected_chunks"] == 0
    assert result["settings"]["unstable_runs"] == []


def test_an_arm_of_ones_own_is_named_after_its_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = (arms.folder() / "ur5.yaml").read_text()
    mine = tmp_path / "mine.yaml"
    mine.write_text(text.replace("../urdf/", f"{arms.folder().parent}/urdf/"))
    assert cli.main(["bench", "control", "--quick", "--robot", str(mine), "--json"]) == 0
    assert "figure8_rms_mm_mine" in json.loads(capsys.readouterr().out)["figures"]


def test_an_unknown_robot_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "control", "--quick", "--robot", "r2d2"]) == 1
    assert "panda" in capsys.readouterr().err


def test_a_soak_prints_what_it_has_seen(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "control", "--soak", "3", "--robot", "ur5e", "--json"]
    assert cli.main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["figures"]["soak_cycles_ur5e"] == 1500
    assert result["figures"]["soak_violations_ur5e"] == 0
    assert set(result["settings"]["failures_and_first_s"]) == {"ur5e"}


def test_an_arm_that_takes_no_torques_is_not_soaked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "control", "--soak", "3", "--robot", "ur5"]) == 1
    assert "ur5 takes positions" in capsys.readouterr().err
