# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from vla_failure import bench
from vla_failure.detectors import DETECTORS


def test_every_detector_of_one_sample_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = ("fused", "safe_mlp", "jerk", "stac", "clock")
    monkeypatch.setattr(bench, "DETECTORS", {name: DETECTORS[name] for name in chosen})
    figures = bench.run(rounds=30)
    names = {f"step_p{share}{n}_ms" for share in (50, 99) for n in ("", "_safe_mlp", "_jerk")}
    assert figures.keys() == names
    for name in ("", "_safe_mlp", "_jerk"):
        assert 0.0 < figures[f"step_p50{name}_ms"] <= figures[f"step_p99{name}_ms"]
