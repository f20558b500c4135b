# SPDX-License-Identifier: Apache-2.0
"""`vla bench record`: the real recorder over DDS, and a few crashes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vla_data import EpisodeReader, check_bag
from vla_nodes.benches import record as record_bench
from vla_nodes.commands import cli
from vla_nodes.commands.bench_record import domain
from vla_nodes.system.up import environment


@pytest.mark.parametrize("images", ["raw", "h264"])
def test_every_message_is_in_the_bag_or_counted_as_lost(tmp_path: Path, images: str) -> None:
    load = record_bench.Load(seconds=2.0, cameras=2, width=160, camera_rate=10.0, state_rate=100.0)
    parameters = {
        "name_pattern": "{task}_{episode_id}",
        "max_file_bytes": 500_000,
        "preroll": 1.0,
        "required_topics": ["/episode/events"],
        "images": images,
    }
    found = record_bench.run(load, tmp_path, environment(), domain(), parameters)
    bag = tmp_path / "bench_bench"
    assert found["messages_count"] > 0
    assert found["drops_count"] == found["drops_stated_count"]
    assert found["cpu_core_percent"] > 0.0
    assert found["peak_memory_mb"] > 10.0
    assert len(list(bag.glob("*.mcap"))) > 1
    with EpisodeReader(bag) as reader:
        stored = "Image" if images == "raw" else "CompressedImage"
        assert len(reader.topics_of_type(f"sensor_msgs/msg/{stored}")) == load.cameras
    checked = check_bag(bag)
    assert checked["sound"], checked
    assert {c["name"]: c["state"] for c in checked["checks"]}["episode"] == "ok", checked


def measured(folder: Path, *options: str) -> dict[str, Any]:
    """What `vla bench record --json` prints."""
    command = [sys.executable, "-m", "vla_nodes.commands.cli", "bench", "record", "--json"]
    run = subprocess.run(
        [*command, *options, "--folder", str(folder)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def test_crashes_are_reported_as_one_object(tmp_path: Path) -> None:
    result = measured(tmp_path, "--crash", "--kills", "2", "--full-disks", "1")
    assert result["figures"]["crash_kills_count"] == 2
    assert result["figures"]["crash_full_disks_count"] == 1
    assert result["figures"]["crash_unreadable_count"] == 0
    assert result["settings"]["small_disk"]


def test_a_conversion_is_measured(tmp_path: Path) -> None:
    found = measured(tmp_path, "--convert", "--seconds", "2", "--width", "128")["figures"]
    assert found["recorded_s"] == pytest.approx(2.0, abs=0.1)
    assert found["conversion_over_real_time_ratio"] > 0.0
    assert found["conversion_cpu_over_recorded_ratio"] > 0.0
    # A frame beside its place would have some 25 dB.
    assert found["film_psnr_min_db"] > 35.0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["bench", "record", "--kills", "-1"])
    assert cli.main(["bench", "record", "--folder", str(tmp_path / "gone")]) == 1
    assert "gone" in capsys.readouterr().err
