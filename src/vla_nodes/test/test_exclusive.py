# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vla_nodes.supervision import exclusive

HOLD = """
import sys
from vla_nodes.supervision import exclusive
right = exclusive.hold(sys.argv[1], 7)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def topic() -> str:
    return f"/arm_of_{os.getpid()}/control_owner"


def test_one_owner_per_arm_and_domain(topic: str) -> None:
    with exclusive.hold(topic, 7):
        with pytest.raises(exclusive.RivalError, match="another supervisor runs"):
            exclusive.hold(topic, 7)
        assert exclusive.is_held(topic, 7)
        with exclusive.hold(topic, 8), exclusive.hold("/other" + topic, 7):
            pass
    assert not exclusive.is_held(topic, 7)
    exclusive.hold(topic, 7).close()


def test_a_killed_owner_leaves_nothing_behind(topic: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, topic], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        assert exclusive.is_held(topic, 7)
        owner.kill()
        owner.wait()
        assert not exclusive.is_held(topic, 7)
