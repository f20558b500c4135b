# SPDX-License-Identifier: Apache-2.0
"""How long an inference takes here."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from .interface import Policy
from .schedules import make_schedule
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


def sampler_cost_ratio(
    policy: Policy, observation: ObservationLike, repetitions: int = 30
) -> float:
    """Median time of a chunk sampled by real-time chunking over that of a plain one.

    Both count the prefix. They take turns, so that whatever else the machine does hits both.

    Raises:
        ValueError: If the policy has no flow.
    """
    state = RobotState.of(observation)
    chunking = make_schedule("rtc", policy, policy.spec.latency_s)
    later = replace(state, stamp_ns=state.stamp_ns + 1)
    rows = np.empty((repetitions, 2))
    for number in range(-3, repetitions):  # the first are warm-up
        chunking.reset()
        chunking.act(policy, policy.encode(observation), state)
        start = time.perf_counter()
        chunking.act(policy, policy.encode(observation), later)
        guided = time.perf_counter()
        policy.act(policy.encode(observation), later)
        rows[max(number, 0)] = guided - start, time.perf_counter() - guided
    return float(np.median(rows[:, 0]) / np.median(rows[:, 1]))
