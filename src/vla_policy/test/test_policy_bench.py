# SPDX-License-Identifier: Apache-2.0
"""What `vla bench policy` measures without a GPU, and how far from possible a chunk is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vla_policy.bench.latency import PARTS
from vla_policy.bench.policy import Setting, run
from vla_policy.bench.roofline import Roofline
from vla_policy.nano_pi0 import NanoPi0
from vla_policy.pi0.layout import full_size


def test_figures_without_a_gpu() -> None:
    torch._dynamo.reset()
    figures = run(Setting("cpu", rounds=2, views=(2,), backend="aot_eager"))
    name = "pi0_reduced_2_views"
    expected = {
        *(f"{who}_{part}_p{percentile}_ms"
          for who in ("nano", f"{name}_eager", f"{name}_compiled")
          for part in PARTS for percentile in (50, 99)),
        *(f"{who}_transport_p{percentile}_ms" for who in ("nano", name) for percentile in (50, 99)),
        "nano_sampler_cost_ratio",
        "nano_eager_over_traced_ratio",
        f"{name}_roofline_ms",
        f"{name}_over_roofline_ratio",
        f"{name}_eager_over_compiled_ratio",
    }  # fmt: skip
    assert set(figures) == expected
    assert all(value > 0.0 for value in figures.values())


def test_the_roofline_of_the_full_size_with_two_views() -> None:
    with torch.device("meta"):  # its shapes alone
        shape = replace(full_size(), cameras=2)
        network = NanoPi0(shape, initialise=False, dtype=torch.bfloat16)
    reading = Roofline(bytes_per_s=1.0, flops_per_s=1e30).bound(network)
    assert reading == pytest.approx(11.1e9, rel=0.02)
    computing = Roofline(bytes_per_s=1e30, flops_per_s=1.0).bound(network)
    expert = 10 * 2 * 51 * sum(p.numel() for p in network.pi0.model.dit.layers.parameters())
    assert computing - expert == pytest.approx(2.6e12, rel=0.03)
