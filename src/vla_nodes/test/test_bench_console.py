# SPDX-License-Identifier: Apache-2.0
"""The console's bench says what it lacks; what it measures with is the system tests' own."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_msgs.msg import ControllerState
from vla_nodes.benches.console import held
from vla_nodes.commands import cli


def test_without_a_browser_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["bench", "console", "--presses", "1"]) == 1
    assert "no browser; valid: one of chromium" in capsys.readouterr().err


def test_an_arm_holds_that_stands_and_follows_nobody() -> None:
    assert held(0.0, ControllerState.PHASE_HOLDING)
    assert not held(0.0, ControllerState.PHASE_TRACKING)
    assert not held(0.01, ControllerState.PHASE_HOLDING)
