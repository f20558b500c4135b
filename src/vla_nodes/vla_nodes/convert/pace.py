# SPDX-License-Identifier: Apache-2.0
"""A policy's chunk at a share of its speed: the same way, in more time."""

from __future__ import annotations

import math
from typing import Any

from geometry_msgs.msg import Twist, Vector3

from vla_msgs.msg import ActionChunk
from vla_nodes.convert.geometry import from_time, to_time
from vla_nodes.supervision.policy_time import PolicyTime

# Fields with so many values per step; joint values are counted by the joints' names.
_PER_STEP = {
    "poses": 1,
    "twists": 1,
    "gripper_opening": 1,
    "gripper_max_force": 1,
    "stiffness": 36,
    "wrenches": 1,
}


def paced(message: ActionChunk, time: PolicyTime, now_ns: int) -> ActionChunk | None:
    """A policy's chunk as it is to be followed from now on.

    Step i, which the policy meant for ``stamp + i * step_dt``, is due at that policy time. A chunk
    whose observation was taken since the last change of speed keeps its stamp, and its steps are
    farther apart; otherwise those that are over are left out, so that its stamp is not moved into
    the past.

    Args:
        message: As the policy sent it.
        time: Of the policy.
        now_ns: ROS time.

    Returns:
        The chunk itself at full speed all along; None = all of it is over.
    """
    stamp_ns, step_dt = from_time(message.header.stamp), message.step_dt
    stretched_dt = step_dt / time.speed
    age_ns = round((time.of(now_ns) - time.of(stamp_ns)) / time.speed)
    start_ns = now_ns - age_ns
    if time.speed == 1.0 and start_ns == stamp_ns:
        return message
    over, steps = 0, _steps(message)
    # What is not well formed is for the controller to refuse.
    if start_ns < stamp_ns and steps and math.isfinite(step_dt) and step_dt > 0.0:
        over = math.floor(age_ns * 1e-9 / stretched_dt)
        start_ns += round(over * stretched_dt * 1e9)
        if over >= steps:
            return None
    out = _without(message, over)
    out.header.stamp, out.step_dt = to_time(start_ns), stretched_dt
    out.twists = [_slower(twist, time.speed) for twist in out.twists]
    out.conditioned_steps = max(0, message.conditioned_steps - over)
    return out


def _widths(message: ActionChunk) -> dict[str, int]:
    return {**_PER_STEP, "joint_values": len(message.joint_names)}


def _steps(message: ActionChunk) -> int:
    """For how many steps everything is that a chunk holds; 0 = not for the same number."""
    held = [(len(getattr(message, name)), width) for name, width in _widths(message).items()]
    steps = {divmod(length, max(1, width)) for length, width in held if length}
    return steps.pop()[0] if len(steps) == 1 else 0


def _without(message: ActionChunk, steps: int) -> ActionChunk:
    """A copy without its first steps."""
    fields: dict[str, Any] = {
        name: getattr(message, name) for name in ActionChunk.get_fields_and_field_types()
    }
    for name, width in _widths(message).items():
        fields[name] = fields[name][steps * width :]
    fields["header"] = type(message.header)(frame_id=message.header.frame_id)
    return ActionChunk(**fields)


def _slower(twist: Twist, speed: float) -> Twist:
    linear, angular = (
        Vector3(x=speed * part.x, y=speed * part.y, z=speed * part.z)
        for part in (twist.linear, twist.angular)
    )
    return Twist(linear=linear, angular=angular)
