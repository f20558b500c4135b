# SPDX-License-Identifier: Apache-2.0
"""`vla failure watch`: what the operator sees, and that silence looks like silence."""

from __future__ import annotations

import io
import math
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from vla_msgs.msg import ControlOwner, FailureStatus, HelpRequest
from vla_nodes.commands.failure_watch import (
    SILENT,
    FailureWatcher,
    course,
    line,
    panel,
    picture_path,
)


def watcher(**changes: object) -> SimpleNamespace:
    """What has been heard of a system at work."""
    status = FailureStatus(
        boot_id=7,
        grant=3,
        episode_id="pick_7_1",
        detector_id="f00d",
        calibration_id="0123456789abcdef",
        step=4,
        score=1.25,
        threshold=3.0,
        margin=1.75,
        alpha=0.15,
        guarantee="P(any alarm in an episode | success) <= 0.15",
        drift_p=0.42,
        signal_names=["safe_mlp", "jerk"],
        signal_values=[0.5, -0.25],
        latency=0.0004,
        verdict=FailureStatus.OK,
    )
    owner = ControlOwner(boot_id=7, grant=3, owner=1, state=ControlOwner.STATE_AUTONOMOUS)
    seen: dict[str, object] = {
        "status": status,
        "owner": owner,
        "asks": None,
        "seen_at": time.monotonic(),
        "shares": deque([0.0, 0.5, 1.2, math.nan, 0.1]),
    }
    return SimpleNamespace(**{**seen, **changes})


def drawn(seen: SimpleNamespace) -> str:
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(panel(seen))
    return console.export_text()


def test_everything_of_a_verdict_is_to_be_seen() -> None:
    text = drawn(watcher())
    for part in ("OK", "1.25 of 3", "1.75 widths", "p = 0.42", "P(any alarm", "0123456789abcdef"):
        assert part in text
    for part in ("alpha 0.15", "safe_mlp", "-0.250", "0.40 ms", "policy, AUTONOMOUS", "f00d"):
        assert part in text
    assert "SILENT" not in text + line(watcher())
    assert "UNCALIBRATED" not in text


def test_silence_is_seen() -> None:
    seen = watcher(seen_at=time.monotonic() - 2.0 * SILENT)
    assert "SILENT (was OK)" in drawn(seen)
    assert "SILENT (was OK)" in line(seen)
    nobody = watcher(status=None)
    assert "no failure_node speaks" in drawn(nobody)
    assert line(nobody) == "no failure_node speaks"


def test_an_uncalibrated_detector_is_seen_to_be_one() -> None:
    seen = watcher(status=FailureStatus(score=math.nan, threshold=math.nan))
    assert "UNCALIBRATED: nothing can alarm" in drawn(seen)
    assert "calibration NONE" in line(seen)


def test_a_call_for_help_is_seen() -> None:
    asked = HelpRequest(reason="above the band", instruction="pick it up", cameras=["scene"])
    text = drawn(watcher(asks=asked))
    assert "asks for help: above the band" in text
    assert "to do: pick it up; pictures: scene" in text


@pytest.mark.parametrize(
    ("shares", "bars"), [([0.0, 1.0, 7.0, -1.0], "▁██▁"), ([math.nan, 0.5], " ▄"), ([], "")]
)
def test_the_course_of_the_score(shares: list[float], bars: str) -> None:
    assert course(shares) == bars


def test_pictures_stay_in_their_folder() -> None:
    asked = HelpRequest(boot_id=7, grant=3)
    folder = Path("pictures")
    assert picture_path(folder, asked, "scene") == folder / "7-3-scene.jpg"
    assert picture_path(folder, asked, "x/../../../etc/passwd").parent == folder


@pytest.mark.parametrize(("threshold", "share"), [(0.0, None), (2.5, 0.5)])
def test_a_threshold_of_zero_is_no_share(threshold: float, share: float | None) -> None:
    seen = SimpleNamespace(status=None, seen_at=0.0, shares=deque())
    FailureWatcher._on_status(seen, FailureStatus(step=4, score=1.25, threshold=threshold))
    assert math.isnan(seen.shares[0]) if share is None else seen.shares[0] == share
