# SPDX-License-Identifier: Apache-2.0
"""`vla bench control --quick` prints one JSON object and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_nodes import cli


def test_quick_table_of_one_arm(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["bench", "control", "--quick", "--robot", "panda", "--json"]
    assert cli.main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"figures", "settings", "versions", "machine"}
    figures = result["figures"]
    # The controller follows more closely than what it is compared with, on the same plant.
    assert figures["figure8_rms_mm"] < 0.5 * figures["figure8_rms_mm_baseline"]
    assert result["settings"]["rejected_chunks"] == 0
    assert result["settings"]["unstable_runs"] == []


def test_an_unknown_robot_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "control", "--quick", "--robot", "r2d2"]) == 1
    assert "panda" in capsys.readouterr().err
