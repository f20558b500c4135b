# SPDX-License-Identifier: Apache-2.0
"""A short crash campaign, and proof that it would see a bag that is lost."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from pathlib import Path
from vla_data import crash_campaign
if sys.argv[2] == "bytes lost":
    from vla_data import mcap_writer
    real = mcap_writer.zlib.crc32
    mcap_writer.zlib = type("zlib", (), {"crc32": staticmethod(lambda data: real(data) ^ 1)})
crash_campaign.LATEST_KILL = 0.5
seen = crash_campaign.run(Path(sys.argv[1]), kills=int(sys.argv[3]), full_disks=int(sys.argv[4]))
print(seen.figures(), seen.failures, seen.small_disk)
figures = seen.figures()
sys.exit(10 * (figures["crash_unreadable_count"] > 0) + (figures["crash_kills_count"] == 0))
"""


def campaign(tmp_path, what, kills, disks):
    # In a process of its own: it forks, which a process with threads must not.
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "bags"), what, str(kills), str(disks)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_no_bag_is_lost(tmp_path):
    run = campaign(tmp_path, "as it is", 6, 2)
    assert run.returncode == 0, run.stdout + run.stderr
    assert list((tmp_path / "bags").iterdir()) == []


def test_a_bag_that_cannot_be_read_is_seen(tmp_path):
    run = campaign(tmp_path, "bytes lost", 1, 1)
    assert run.returncode == 10, run.stdout + run.stderr
