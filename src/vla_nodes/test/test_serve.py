# SPDX-License-Identifier: Apache-2.0
"""`vla serve`, and the policy node's way to it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_data import Observation
from vla_nodes.configs import PolicyConfig
from vla_nodes.inference.setup import load, make_contract
from vla_nodes.parameters import defaults, from_mapping
from vla_policy.serving.connect import TOKEN

SERVE = (sys.executable, "-m", "vla_nodes.commands.cli", "serve")


def config(**changes: Any) -> PolicyConfig:
    """The node's parameters."""
    return from_mapping(PolicyConfig, {**defaults("policy_node"), **changes})


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """A file with a token."""
    file = tmp_path / "token"
    file.write_text("secret\n")
    return file


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """Where the committed policy is served; the server must end cleanly when it is told to."""
    command = [*SERVE, "--port", "0", "--threads", "1", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    found = re.search(r"ws://\S+:\d+", line)
    assert found, line
    try:
        yield found[0]
    finally:
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=30.0)
    assert server.returncode == 0, errors
    assert "Traceback" not in errors


@pytest.fixture
def address(token: Path) -> Iterator[str]:
    """Where the committed policy is served."""
    with serving("--token-file", str(token)) as address:
        yield address


def a_look(spec: Any) -> Observation:
    """An observation that fits a policy."""
    rng = np.random.default_rng(0)
    size = (spec.image_size, spec.image_size, 3)
    return Observation(
        stamp_ns=1,
        images={name: rng.integers(0, 256, size, dtype=np.uint8) for name in spec.cameras},
        q=np.zeros(7),
        dq=np.zeros(7),
        gripper_opening=0.04,
        instruction="pick up the red cube",
        pose_tool_in_base=np.eye(4),
    )


def test_cameras_are_what_the_policy_takes() -> None:
    spec = load(config()).spec
    exact = make_contract(config(), spec).cameras["scene"]
    fitted = make_contract(config(), replace(spec, fits_images=True)).cameras["scene"]
    assert (exact.height, exact.width) == (96, 96)
    assert (fitted.height, fitted.width) == (None, None)


def test_a_node_gets_the_same_chunks_from_a_server(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "secret")
    local, far = load(config()), load(config(checkpoint=address))
    observation = a_look(local.spec)
    chunks = [policy.act(policy.encode(observation), observation) for policy in (local, far)]
    np.testing.assert_array_equal(chunks[0].poses_tool_in_base, chunks[1].poses_tool_in_base)
    with pytest.raises(ValueError, match=r"joint_names: the server has .* needed is \('a', 'b'\)"):
        load(config(checkpoint=address, joint_names=("a", "b")))
    monkeypatch.setenv(TOKEN, "guess")
    with pytest.raises(ValueError, match="401"):
        load(config(checkpoint=address))


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling a policy needs g++")
@pytest.mark.timeout(400)  # it compiles, with a core of its own or without
def test_a_compiled_policy_is_served() -> None:
    local = load(config())
    observation = a_look(local.spec)
    expected = local.act(local.encode(observation), observation).commanded
    with serving("--compile") as address:
        far = load(config(checkpoint=address))
        found = far.act(far.encode(observation), observation).commanded
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert not np.array_equal(found, expected), "it is the eager one"


def test_a_node_whose_policy_is_behind_a_server_needs_no_torch() -> None:
    code = (
        "import sys, vla_nodes.policy_node, vla_nodes.inference.setup; "
        "print(sorted({'torch', 'transformers', 'mujoco'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no policy server at ws://127"):
        load(config(checkpoint="ws://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "a token and a certificate are needed"),
        (["--policy", "nowhere"], "no checkpoint folder at nowhere"),
        (["--token-file", "nowhere"], "nowhere"),
        (["--certificate", "c.pem"], "private key"),
    ],
)
def test_what_cannot_be_served(options: list[str], message: str) -> None:
    done = subprocess.run([*SERVE, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
