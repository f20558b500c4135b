# SPDX-License-Identifier: Apache-2.0
"""failure_node by itself: what it refuses to start with, and what it says when it has no band."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from vla_failure.detectors.saving import make_detector, save_detector
from vla_nodes.configs import FailureConfig
from vla_nodes.failure_node import FailureNode, load
from vla_nodes.node_tools import ERROR, WARN
from vla_nodes.parameters import defaults, from_mapping


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    made = Context()
    rclpy.init(context=made)
    yield made
    rclpy.shutdown(context=made)


def config(folder: Path | str, **changes: object) -> FailureConfig:
    values = {**defaults("failure_node"), "detector": str(folder), **changes}
    return from_mapping(FailureConfig, values)


def make(context: Context, **values: Any) -> FailureNode:
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    return FailureNode(context=context, parameter_overrides=overrides)


def test_it_starts_with_a_calibration_or_with_an_explicit_wish(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder of a detector at ''"):
        load(config(""))
    with pytest.raises(ValueError, match="nope"):
        load(config(tmp_path / "nope"))
    with pytest.raises(ValueError, match=r"detector\.json"):
        load(config(tmp_path, allow_uncalibrated=True))
    save_detector(tmp_path, make_detector("clock", {}))
    with pytest.raises(ValueError, match=r"holds no calibration: .* allow_uncalibrated"):
        load(config(tmp_path))
    assert load(config(tmp_path, allow_uncalibrated=True)).calibration is None


def test_the_operator_sees_that_nothing_can_alarm(context: Context, tmp_path: Path) -> None:
    save_detector(tmp_path, make_detector("clock", {}))
    refused = make(context, detector=str(tmp_path))
    assert refused.trigger_configure() is TransitionCallbackReturn.FAILURE
    level, text, _ = refused._health()
    assert (level, "holds no calibration" in text) == (ERROR, True)
    wished = make(context, detector=str(tmp_path), allow_uncalibrated=True)
    assert wished.trigger_configure() is TransitionCallbackReturn.SUCCESS
    level, text, values = wished._health()
    assert level == WARN
    assert text.startswith("UNCALIBRATED, nothing can alarm")
    assert values["calibration"] == "none"
    assert wished.trigger_cleanup() is TransitionCallbackReturn.SUCCESS
    refused.destroy_node()
    wished.destroy_node()


def test_neither_it_nor_the_supervisor_loads_torch() -> None:
    code = (
        "import sys; import vla_nodes.failure_node, vla_nodes.supervisor_node;"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_supervisor_loads_no_detector() -> None:
    code = (
        "import sys; import vla_nodes.supervisor_node;"
        "sys.exit('vla_failure.monitor' in sys.modules or 'vla_failure.detectors' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
