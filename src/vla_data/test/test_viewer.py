# SPDX-License-Identifier: Apache-2.0
"""The page about an episode holds everything it shows."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from control_episode import TAKEOVER, write
from made_episode import JOINTS

from vla_data.report.rerun_view import RerunMissingError, write_rerun
from vla_data.report.viewer import write_view


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text()
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)
    assert found
    document: dict[str, Any] = json.loads(found[1])
    return document


@pytest.fixture(scope="module")
def page(control_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_view(control_bag, tmp_path_factory.mktemp("page") / "view.html")


def test_nothing_is_fetched_from_elsewhere(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert not re.search(r"\b(fetch|import|XMLHttpRequest|WebSocket)\(", text)


def test_film_owner_and_signals_share_one_time(page: Path) -> None:
    data = data_of(page)
    assert base64.b64decode(data["film"]["base64"])[4:8] == b"ftyp"
    assert data["film"]["start"] == pytest.approx(0.0, abs=0.01)
    bands = {band["name"]: band["spans"] for band in data["bands"]}
    owners = [(span["name"], span["start"]) for span in bands["owner"]]
    assert [name for name, _ in owners] == ["none", "policy", "operator", "none"]
    assert owners[2][1] == pytest.approx(TAKEOVER, abs=0.03)
    assert {span["name"] for span in bands["phase"]} == {"holding", "tracking"}
    titles = [chart["title"] for chart in data["charts"]]
    assert titles[0].startswith("tool x")
    assert "torque / % of limit" in titles
    for chart in data["charts"]:
        assert all(len(line["values"]) == len(chart["time"]) for line in chart["lines"])


def test_events_and_scores_are_shown(episode_bag: Path, tmp_path: Path, messages: Any) -> None:
    data = data_of(write_view(episode_bag, tmp_path / "view.html"))
    assert data["events"] == []
    assert all("failure" not in chart["title"] for chart in data["charts"])


def test_words_of_a_bag_are_no_markup(tmp_path: Path, messages: Any) -> None:
    bag = write(tmp_path / "bag", messages, instruction="<b>DATA</b></script>")
    text = write_view(bag, tmp_path / "view.html").read_text()
    assert "<b>" not in text
    assert text.count("</script>") == 2


def test_the_recording_for_rerun_needs_its_package(
    control_bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(RerunMissingError, match="pip install rerun-sdk"):
        write_rerun(control_bag, tmp_path / "view.rrd")
    assert list(tmp_path.iterdir()) == []


def test_reruns_own_reader_opens_the_recording(control_bag: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "rerun", reason="rerun-sdk is not installed; it is not part of the suite (docs/data.md)"
    )
    path = write_rerun(control_bag, tmp_path / "view.rrd")
    run = subprocess.run(
        [sys.executable, "-m", "rerun", "rrd", "print", str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    shown = run.stdout + run.stderr
    for entity in ("/cameras/scene", "/cameras/wrist", "/owner", "/phase", "/tool/measured/path"):
        assert entity in shown, shown
    assert shown.count("/signals/") >= 3 * 2 + 2 + len(JOINTS)
