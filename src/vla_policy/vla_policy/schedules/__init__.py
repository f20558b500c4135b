# SPDX-License-Identifier: Apache-2.0
"""Schedules: how inference and execution share the time, one file each."""

from __future__ import annotations

from ..interface import Policy
from .base import Kinematics, Schedule
from .delay import DelayWindow
from .future_state import FutureState
from .real_time_chunking import HeldPrefix, RealTimeChunking
from .resampling import resample
from .synchronous import Synchronous
from .temporal_ensembling import TemporalEnsembling

SCHEDULES: dict[str, type[Schedule]] = {
    kind.name: kind
    for kind in (
        Schedule,
        Synchronous,
        TemporalEnsembling,
        RealTimeChunking,
        HeldPrefix,
        FutureState,
    )
}


def make_schedule(
    name: str, policy: Policy, initial_delay: float, kinematics: Kinematics | None = None
) -> Schedule:
    """The schedule called ``name``, for a policy.

    Args:
        name: One of ``SCHEDULES``.
        policy: That it will be given.
        initial_delay: Delay expected before anything has been measured, s.
        kinematics: Of the arm; ``vlash`` needs it.

    Raises:
        ValueError: If there is no such schedule, the policy cannot serve it, or its chunks are too
            short for the delay.
    """
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}; valid: {', '.join(SCHEDULES)}")
    kind = SCHEDULES[name]
    if kind.needs_flow and not policy.has_flow:
        valid = ", ".join(n for n, k in SCHEDULES.items() if not k.needs_flow)
        raise ValueError(f"the schedule {name!r} needs a policy with a flow; valid here: {valid}")
    return kind(policy.spec, initial_delay, kinematics)


__all__ = [
    "SCHEDULES",
    "DelayWindow",
    "Kinematics",
    "Schedule",
    "make_schedule",
    "resample",
]
