# SPDX-License-Identifier: Apache-2.0
"""`vla bench policy` prints one JSON object and nothing else."""

from __future__ import annotations

import json

import pytest
import torch

from vla_nodes.commands import cli


def test_quick_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "policy", "--quick", "--rounds", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"figures", "settings", "versions", "machine"}
    for way in (
        "camera_to_tensor_2x640x480",
        "camera_callback_640x480",
        "chunk_to_controller",
        "features_to_message",
    ):
        assert result["figures"][f"{way}_p50_ms"] > 0.0
    for name in ("executor_gap", "executor_gap_alone"):
        assert result["figures"][f"{name}_max_ms"] > 0.0
    assert result["figures"]["executor_inferences_count"] > 0
    if not torch.cuda.is_available():
        assert result["settings"]["gpu"] == "none: no π0 of full size was measured"
        assert "pi0_reduced_2_views_eager_total_p50_ms" in result["figures"]
