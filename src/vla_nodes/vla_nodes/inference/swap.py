# SPDX-License-Identifier: Apache-2.0
"""Loads another policy while the present one serves. No rclpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vla_nodes.inference.worker import InferenceThread

# What cameras, contract and schedule were set up for.
_SAME = (
    "cameras",
    "image_size",
    "fits_images",
    "joint_names",
    "horizon",
    "step_dt",
    "execute_steps",
)


def load_and_swap(
    load: Callable[[], Any], warm_up: Callable[[Any], None], thread: InferenceThread
) -> tuple[bool, str]:
    """Loads, checks and warms up a policy, then lets it take over between two chunks.

    It takes seconds: call it in a thread of its own. Whatever fails, the present policy goes on.

    Args:
        load: Makes the new policy; raises ValueError or OSError.
        warm_up: Runs it once, so that its first chunk is not ten times slower than the rest.
        thread: That is to use it.

    Returns:
        Whether it takes over, and why not or which one it is.
    """
    present = thread.policy
    try:
        policy = load()
        _check(policy, present)
        warm_up(policy)
    except Exception as error:
        return False, (f"{type(error).__name__}: {error}; policy {present.spec.policy_id} goes on")
    thread.swap(policy)
    return True, f"policy {policy.spec.policy_id} takes over from {present.spec.policy_id}"


def _check(policy: Any, present: Any) -> None:
    for name in _SAME:
        new, old = getattr(policy.spec, name), getattr(present.spec, name)
        if new != old:
            raise ValueError(f"its {name} is {new!r}, this node is set up for {old!r}")
    if present.has_flow and not policy.has_flow:
        raise ValueError("it has no flow, which the present one has and the schedule may need")
