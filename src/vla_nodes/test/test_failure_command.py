# SPDX-License-Identifier: Apache-2.0
"""`vla failure import` and `report` name what is wrong and end with 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_nodes.commands import cli


def test_what_cannot_be_imported_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["failure", "import", "openpi", str(tmp_path / "pi0"), str(tmp_path / "out")]
    assert cli.main(arguments) == 1
    assert "vla failure import: no episodes in" in capsys.readouterr().err
    (tmp_path / "openvla").mkdir()
    (tmp_path / "openvla" / "task0--ep0--succ1.pkl").write_bytes(b"no such file")
    arguments[2:4] = ["openvla", str(tmp_path / "openvla")]
    assert cli.main(arguments) == 1
    assert "task0--ep0--succ1.pkl" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_report_needs_rollouts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["failure", "report", str(tmp_path / "none"), "--out", str(tmp_path / "report")]
    assert cli.main(arguments) == 1
    assert "no rollouts there" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
