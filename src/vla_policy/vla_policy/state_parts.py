# SPDX-License-Identifier: Apache-2.0
"""States of public checkpoints, put together of named parts.

=====================  ==============================================================  =======
part                   entries                                                         unit
=====================  ==============================================================  =======
joint_position         of the arm, in the order of the policy's joints                 rad
joint_velocity         the same                                                        rad/s
position               of the tool in the base frame                                   m
pose                   of the tool in the base frame, the 4x4 matrix row by row        m
rotation_vector        of the tool in the base frame                                   rad
quat_xyzw              of the tool in the base frame, w not negative
6d                     first two columns of the tool's rotation
euler_CONVENTION       of the tool, e.g. ``euler_xyz`` for fixed axes                  rad
gripper_opening        between the pads                                                m
gripper_closed         from 0, open, to 1, closed
finger_positions       of two fingers whose axes are opposite: half the opening, and   m
                       minus that (robosuite's ``robot0_gripper_qpos``)
=====================  ==============================================================  =======
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .actions.rotations import SIZES, check_euler_convention, encode_rotations
from .types import Array, RobotState

_EULER = "euler_"
_ROTATIONS = ("rotation_vector", "quat_xyzw", "6d")


@dataclass(frozen=True)
class StatePart:
    """A part of a state.

    Attributes:
        names: Of its entries.
        encode: Its entries of a robot's state.
    """

    names: tuple[str, ...]
    encode: Callable[[RobotState], Array]


def make_state_parts(
    names: Sequence[str], joint_names: Sequence[str], max_opening: float | None
) -> tuple[StatePart, ...]:
    """The parts of a state, in order.

    Args:
        names: See above.
        joint_names: Of the arm.
        max_opening: Of the gripper, m; only ``gripper_closed`` needs it.

    Raises:
        ValueError: Naming the part that is unknown, and what is valid.
    """
    return tuple(_make(str(name), joint_names, max_opening) for name in names)


def _make(name: str, joint_names: Sequence[str], max_opening: float | None) -> StatePart:
    known: dict[str, tuple[Sequence[str], Callable[[RobotState], Array]]] = {
        "joint_position": (joint_names, lambda state: state.q),
        "joint_velocity": (joint_names, lambda state: state.dq),
        "position": ("xyz", lambda state: state.pose_tool_in_base[:3, 3]),
        "pose": ([str(i) for i in range(16)], lambda state: state.pose_tool_in_base.ravel()),
        **{one: (_numbers(one), _rotation(one)) for one in _ROTATIONS},
        "gripper_opening": (("m",), lambda state: np.array([state.gripper_opening])),
        "gripper_closed": (("share",), lambda state: _closed(state, max_opening)),
        "finger_positions": (
            ("first", "second"),
            lambda state: 0.5 * state.gripper_opening * np.array([1.0, -1.0]),
        ),
    }
    if name.startswith(_EULER):
        convention = name.removeprefix(_EULER)
        check_euler_convention(convention)
        known[name] = (_numbers("euler"), _rotation("euler", convention))
    if name not in known:
        raise ValueError(
            f"unknown part {name!r} of the state; valid: {', '.join(known)}, euler_xyz and the like"
        )
    if name == "gripper_closed" and max_opening is None:
        raise ValueError("the state's gripper_closed needs max_opening, m")
    entries, encode = known[name]
    return StatePart(tuple(f"{name}/{entry}" for entry in entries), encode)


def _numbers(representation: str) -> tuple[str, ...]:
    """Names of a rotation's entries."""
    return tuple(str(index) for index in range(SIZES[representation]))


def _rotation(representation: str, convention: str | None = None) -> Callable[[RobotState], Array]:
    return lambda state: encode_rotations(
        state.pose_tool_in_base[:3, :3], representation, convention
    )


def _closed(state: RobotState, max_opening: float | None) -> Array:
    share = state.gripper_opening / (max_opening or np.nan)
    return np.array([1.0 - min(max(share, 0.0), 1.0)])
