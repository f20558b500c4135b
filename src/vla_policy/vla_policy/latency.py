# SPDX-License-Identifier: Apache-2.0
"""How long an inference takes here."""

from __future__ import annotations

import time

import numpy as np

from .policy import Policy
from .types import ObservationLike, RobotState


def measure_latency(
    policy: Policy, observation: ObservationLike, repetitions: int = 50
) -> dict[str, float]:
    """Wall-clock times of ``encode`` and ``act`` after a warm-up, ms.

    Args:
        policy: To be measured.
        observation: That fits it.
        repetitions: Number of inferences.

    Returns:
        Median and 99th percentile of encode, act and both.
    """
    state = RobotState.of(observation)
    for _ in range(3):
        policy.act(policy.encode(observation), state)
    rows = np.empty((repetitions, 2))
    for row in rows:
        start = time.perf_counter()
        context = policy.encode(observation)
        encoded = time.perf_counter()
        policy.act(context, state)
        row[:] = encoded - start, time.perf_counter() - encoded
    rows *= 1e3
    result = {}
    for name, values in (("encode", rows[:, 0]), ("act", rows[:, 1]), ("chunk", rows.sum(1))):
        result[f"{name}_p50_ms"] = float(np.percentile(values, 50))
        result[f"{name}_p99_ms"] = float(np.percentile(values, 99))
    return result
