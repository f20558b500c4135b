# SPDX-License-Identifier: Apache-2.0
"""Where the objects of a scene are, from the joint positions of everything in it."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from vla_sim.scene import mechanisms, tools
from vla_sim.scene.common import CUBE_SIZE
from vla_sim.scene.layout import COLORS, Prop, SceneLayout
from vla_sim.scene.props import FREE_PROPS
from vla_sim.typing import FloatArray


@dataclass(frozen=True)
class WatchedObject:
    """An object that a task may name.

    Attributes:
        body: Its moving part in the model.
        prop: The prop it belongs to; empty for a cube.
        joint: Its joint in the model.
    """

    body: str
    prop: str
    joint: str


# Per name of an object, as instructions and judgements use it.
OBJECTS: dict[str, WatchedObject] = {
    **{color: WatchedObject(f"cube_{color}", "", f"cube_{color}") for color in COLORS},
    **{
        f"{color} button": WatchedObject(
            f"button_{color}_cap", f"button_{color}", f"button_{color}"
        )
        for color in COLORS
    },
    "drawer": WatchedObject("drawer_box", "drawer", "drawer"),
    "knob": WatchedObject("knob_wing", "knob", "knob"),
    "puck": WatchedObject("turntable_disc", "turntable", "turntable"),
    "peg": WatchedObject("peg", "peg", "peg"),
    "cup": WatchedObject("cup", "cup", "cup"),
    "mark": WatchedObject("plate", "plate", ""),
}
_MARK_JOINTS = tuple(f"mark_{index}" for index in range(tools.MARK_DOTS))


@dataclass(frozen=True)
class ObjectStates:
    """The objects of a scene at one instant, each by its name.

    Attributes:
        positions: The point to go for, in the base frame, m: of a cube its centre, of a drawer the
            middle of the gap behind its handle, of a button the middle of its cap's top.
        yaws: rad.
        speeds: m/s, or rad/s of a knob.
        travels: How far a joint has moved from rest: m of a drawer or button, rad of a knob, the
            share of a mark that is wiped away.
        tilts: Angle between the vertical and the axis of what can be picked up, rad.
        axes: That axis, a unit vector in the base frame.
    """

    positions: dict[str, FloatArray]
    yaws: dict[str, float]
    speeds: dict[str, float]
    travels: dict[str, float]
    tilts: dict[str, float]
    axes: dict[str, FloatArray]


def present_objects(layout: SceneLayout) -> list[str]:
    """Return the names of the objects on the table, cubes first."""
    props = {prop.name for prop in layout.props}
    cubes = [cube.color for cube in layout.cubes]
    return [*cubes, *(name for name, watched in OBJECTS.items() if watched.prop in props)]


def observe_objects(
    model: mujoco.MjModel, layout: SceneLayout, qpos: FloatArray, qvel: FloatArray
) -> ObjectStates:
    """Return the objects of a scene that was laid by ``layout``."""
    states = ObjectStates({}, {}, {}, {}, {}, {})
    for name in present_objects(layout):
        watched = OBJECTS[name]
        prop = layout.prop(watched.prop)
        if prop is None or prop.name in FREE_PROPS:
            _observe_free(states, model, name, qpos, qvel)
        elif name == "mark":
            down = [float(qpos[model.joint(joint).qposadr[0]]) for joint in _MARK_JOINTS]
            states.travels[name] = float(np.mean(np.array(down) > tools.DOT_HEIGHT - 0.0005))
            states.positions[name] = np.array([prop.x, prop.y, tools.PLATE_TOP])
            states.yaws[name], states.speeds[name] = prop.yaw, 0.0
        else:
            joint = model.joint(watched.joint)
            travel = float(qpos[joint.qposadr[0]])
            states.travels[name] = travel
            states.speeds[name] = abs(float(qvel[joint.dofadr[0]]))
            states.positions[name] = point_of(name, prop, travel)
            states.yaws[name] = prop.yaw + (travel if name in ("knob", "puck") else 0.0)
    return states


def _observe_free(
    states: ObjectStates, model: mujoco.MjModel, name: str, qpos: FloatArray, qvel: FloatArray
) -> None:
    joint = model.joint(OBJECTS[name].joint)
    start, dof = joint.qposadr[0], joint.dofadr[0]
    w, x, y, z = qpos[start + 3 : start + 7]
    states.positions[name] = qpos[start : start + 3].copy()
    states.yaws[name] = float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))
    states.speeds[name] = float(np.linalg.norm(qvel[dof : dof + 3]))
    axis = np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
    states.axes[name] = axis
    states.tilts[name] = float(np.arccos(np.clip(axis[2], -1.0, 1.0)))


def point_of(name: str, prop: Prop, travel: float) -> FloatArray:
    """Return the point to go for, m, of an object with one joint.

    Args:
        name: Of the object.
        prop: Where it stands.
        travel: Of its joint, m or rad.
    """
    cos, sin = np.cos(prop.yaw), np.sin(prop.yaw)
    if name == "drawer":
        along = mechanisms.HANDLE_POINT[0] - travel
        return _above(prop, along * cos, along * sin, float(mechanisms.HANDLE_POINT[2]))
    if name == "knob":
        return _above(prop, 0.0, 0.0, mechanisms.KNOB_HEIGHT)
    if name == "puck":
        angle, orbit = prop.yaw + travel, mechanisms.PUCK_ORBIT
        return _above(prop, orbit * np.cos(angle), orbit * np.sin(angle), mechanisms.PUCK_TOP)
    return _above(prop, 0.0, 0.0, mechanisms.BUTTON_TOP - travel)


def _above(prop: Prop, x: float, y: float, z: float) -> FloatArray:
    return np.array([prop.x + x, prop.y + y, z])


def write_object(
    model: mujoco.MjModel,
    qpos: FloatArray,
    name: str,
    *,
    position: FloatArray,
    travel: float = 0.0,
    quat_wxyz: FloatArray | None = None,
) -> None:
    """Put an object where it is said to be, in the joint positions of a scene.

    Args:
        model: The scene.
        qpos: Joint positions of everything; changed.
        name: Of the object.
        position: Of what can be picked up, m.
        travel: Of what has one joint, m or rad; of a mark, the share wiped away.
        quat_wxyz: Orientation of what can be picked up; None = as it is.
    """
    watched = OBJECTS[name]
    if name == "mark":
        wiped = round(travel * tools.MARK_DOTS)
        for index, joint in enumerate(_MARK_JOINTS):
            qpos[model.joint(joint).qposadr[0]] = tools.DOT_HEIGHT + 0.001 if index < wiped else 0.0
        return
    address = model.joint(watched.joint).qposadr[0]
    if watched.prop and watched.prop not in FREE_PROPS:
        qpos[address] = travel
        return
    qpos[address : address + 3] = position
    if quat_wxyz is not None:
        qpos[address + 3 : address + 7] = quat_wxyz


def rest_height(name: str) -> float:
    """Return the height of an object's origin when it stands on the table, m."""
    return FREE_PROPS.get(name, 0.5 * CUBE_SIZE)
