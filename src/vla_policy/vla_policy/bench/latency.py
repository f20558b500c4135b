# SPDX-License-Identifier: Apache-2.0
"""How long an inference takes here."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..interface import Policy
from ..policy import NetworkPolicy
from ..schedules import make_schedule
from ..types import Array, ObservationLike, RobotState

PARTS = ("preprocessing", "prefix", "denoising", "total")
_WARM_UP = 3


def measure_parts(
    policies: dict[str, NetworkPolicy], observation: ObservationLike, rounds: int
) -> dict[str, dict[str, Array]]:
    """Times of the parts of a chunk, ms, of policies that take turns.

    Args:
        policies: By name.
        observation: That fits them all.
        rounds: Chunks of each.

    Returns:
        By policy and part (``PARTS``): (rounds,). ``denoising`` is all of ``act``: the flow, and
        the chunk made of its actions.
    """
    times = {name: np.empty((rounds, len(PARTS))) for name in policies}
    state = RobotState.of(observation)
    for number in range(-_WARM_UP, rounds):
        for name, policy in policies.items():
            marks = [time.perf_counter()]
            read = policy.read([observation])
            marks.append(_now(read[0]))
            (context,) = policy.encode_read([(observation, 0)], read)
            marks.append(_now(read[0]))
            policy.act(context, state)
            marks.append(_now(read[0]))
            times[name][max(number, 0)] = *np.diff(marks), marks[-1] - marks[0]
    return {
        name: {part: 1e3 * rows[:, index] for index, part in enumerate(PARTS)}
        for name, rows in times.items()
    }


def _now(tensor: Tensor) -> float:
    """The time when a device has done what it was told."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
    return time.perf_counter()


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
