# SPDX-License-Identifier: Apache-2.0
"""What the controller and the supervisor say of themselves, as messages."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, TypeVar

from vla_msgs.msg import ControllerState, ControlOwner, EpisodeEvent, Outcome, TaskStatus
from vla_nodes.convert.geometry import header, to_pose, to_twist, to_wrench
from vla_nodes.supervision import machine as supervision
from vla_nodes.supervision import types as supervision_types

EnumT = TypeVar("EnumT", bound=enum.IntEnum)


def to_controller_state(
    state: Any, stamp_ns: int, base_frame: str, tool_frame: str, joint_names: Sequence[str]
) -> ControllerState:
    """A ``vla_control.ControllerState`` as a message."""
    message = ControllerState(header=header(stamp_ns, base_frame), tool_frame=tool_frame)
    for name in ("phase", "fault", "boot_id", "grant", "sequence", "cycles"):
        setattr(message, name, int(getattr(state, name)))
    for name in ("chunks_accepted", "chunks_rejected", "last_reject_reason"):
        setattr(message, name, int(getattr(state, name)))
    for name in (
        "chunk_age",
        "chunk_remaining",
        "chunk_slowdown",
        "gripper_opening_command",
        "gripper_max_force",
    ):
        setattr(message, name, float(getattr(state, name)))
    for name in (
        "torque_saturated",
        "torque_rate_saturated",
        "wrench_saturated",
        "stiffness_limited",
        "in_contact",
        "object_lost",
        "unmonitored",
        "gripper_commanded",
        "compliant",
    ):
        setattr(message, name, bool(getattr(state, name)))
    message.smallest_distance = float(state.smallest_distance)
    message.joint_names = list(joint_names)
    joint_arrays = ("q", "dq", "tau_command", "tau_limit", "q_command", "dq_command")
    for name in (*joint_arrays, "external_torque"):
        setattr(message, name, [float(value) for value in getattr(state, name)])
    message.pose_tool_in_base = to_pose(state.pose_tool_in_base)
    message.twist_tool_in_base = to_twist(state.twist_tool_in_base)
    message.reference_pose_tool_in_base = to_pose(state.reference_pose_tool_in_base)
    message.reference_twist_tool_in_base = to_twist(state.reference_twist_tool_in_base)
    message.wrench_command = to_wrench(state.wrench_command)
    message.external_wrench = to_wrench(state.external_wrench)
    return message


def known(kind: type[EnumT], number: int, otherwise: EnumT) -> EnumT:
    """An enumerator by its number; ``otherwise`` for a number that this version does not know."""
    try:
        return kind(number)
    except ValueError:
        return otherwise


def pass_heartbeat(message: ControlOwner, controller: Any, now_ns: int) -> None:
    """Tells a ``vla_control.Controller`` who has the arm; a number that is no owner's is nobody."""
    from vla_control import Owner  # here, so that conversions of other messages do without the core

    owner = known(Owner, message.owner, Owner.NONE)
    controller.heartbeat(message.boot_id, message.grant, now_ns, owner)


def to_control_owner(core: supervision.Supervisor, stamp_ns: int) -> ControlOwner:
    """Who owns the arm, as a heartbeat."""
    return ControlOwner(
        header=header(stamp_ns),
        boot_id=core.boot_id,
        grant=core.grant,
        owner=int(core.owner),
        state=int(core.state),
        instruction=core.instruction,
        instruction_id=core.instruction_id,
        episode_id=core.task.episode_id if core.task else "",
        task=core.task.goal.task if core.task else "",
        speed=core.policy_time.speed,
        reason=core.reason,
    )


def to_outcome(outcome: supervision_types.Outcome | None) -> Outcome:
    """An outcome as a message; None is UNKNOWN."""
    if outcome is None:
        return Outcome()
    return Outcome(
        outcome=int(outcome.verdict), outcome_source=int(outcome.source), message=outcome.message
    )


def to_episode_event(event: supervision_types.Event) -> EpisodeEvent:
    """An event of the supervisor as a message."""
    message = EpisodeEvent(header=header(event.stamp_ns), event=int(event.kind), text=event.text)
    if event.task is not None:
        message.episode_id = event.task.episode_id
        message.task = event.task.goal.task
        message.seed = event.task.goal.seed
        message.instruction = event.task.goal.instruction
        if event.kind is supervision_types.EventKind.END:
            message.outcome = to_outcome(event.task.outcome)
    return message


def to_task_status(
    stamp_ns: int,
    *,
    episode_id: str,
    task: str,
    suite: str,
    seed: int,
    success: bool,
    elapsed: float,
    details: str,
) -> TaskStatus:
    """The simulator's verdict on its task as a message; ``elapsed`` in s."""
    message = TaskStatus(
        header=header(stamp_ns), episode_id=episode_id, task=task, suite=suite, seed=seed
    )
    if success:
        message.outcome = Outcome(
            outcome=Outcome.SUCCESS, outcome_source=Outcome.SOURCE_SIMULATOR, message=details
        )
    message.elapsed = elapsed
    message.details = details
    return message
