# SPDX-License-Identifier: Apache-2.0
"""The committed policy acts on what it sees and on what it is told.

A few episodes, and bounds well below what `vla eval` measures on hundreds: the last bits of a
network's arithmetic, and with them single episodes, differ between processors.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

EPISODES = 8
# Evaluation scenes beyond those whose results the README quotes.
FIRST = "10000"

pytestmark = pytest.mark.timeout(600)


def vla_eval(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, ended."""
    return subprocess.run(
        [sys.executable, "-m", "vla_nodes.commands.cli", "eval", "--json", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def evaluate(*arguments: str) -> dict[str, Any]:
    """What it prints about a few episodes of *pick*."""
    done = vla_eval("--suite", "pick", "--episodes", str(EPISODES), "--first", FIRST, *arguments)
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    assert {"figures", "settings", "versions", "machine"} <= set(printed)
    return printed


def test_it_picks_up_what_it_is_told_to() -> None:
    figures = evaluate()["figures"]
    assert figures["success_rate_pick"] >= 0.6
    assert figures["wrong_object_rate"] <= 0.2


def test_with_the_lights_out_it_fails() -> None:
    assert evaluate("--images", "black")["figures"]["success_rate_pick"] <= 0.15


def test_another_name_leads_to_another_object() -> None:
    result = evaluate("--pairs")
    assert len(result["pairs"]) == EPISODES
    assert result["figures"]["other_object_rate"] >= 0.75


def test_pairs_in_the_dark_are_refused() -> None:
    refused = vla_eval("--pairs", "--images", "black")
    assert refused.returncode == 1
    assert "--images" in refused.stderr
