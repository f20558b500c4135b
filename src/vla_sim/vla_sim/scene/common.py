# SPDX-License-Identifier: Apache-2.0
"""What every part of the scene shares: sizes, where parked things are, what touches what."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from vla_sim.typing import FloatArray

CUBE_SIZE = 0.04
# Edges and centre of the table top in the base frame, m.
TABLE_SIZE = (1.20, 1.30, 0.04)
TABLE_CENTER = (0.42, 0.0, -0.02)

# Behind the scene camera.
PARK = np.array([8.0, 0.0, 0.5])

# Bits of contype/conaffinity. The robot touches the environment but not itself; the moving part of
# a prop touches robot and free objects, but neither its own frame nor the table.
ENVIRONMENT = 1
ROBOT = 2
MOVING = 4

FIXED_CONTACT: dict[str, Any] = {
    "contype": ENVIRONMENT,
    "conaffinity": ENVIRONMENT | ROBOT,
    "condim": 4,
    "friction": [0.5, 0.005, 0.0001],
}
FREE_CONTACT: dict[str, Any] = {
    "contype": ENVIRONMENT,
    "conaffinity": ENVIRONMENT | ROBOT | MOVING,
    "condim": 4,
    "friction": [0.6, 0.005, 0.0001],
    "solref": [0.006, 1.0],
}
MOVING_CONTACT: dict[str, Any] = {
    "contype": MOVING,
    "conaffinity": ROBOT,
    "condim": 4,
    "friction": [0.5, 0.005, 0.0001],
}
NO_CONTACT: dict[str, Any] = {"contype": 0, "conaffinity": 0}

BOX = mujoco.mjtGeom.mjGEOM_BOX
CYLINDER = mujoco.mjtGeom.mjGEOM_CYLINDER
ELLIPSOID = mujoco.mjtGeom.mjGEOM_ELLIPSOID
SPHERE = mujoco.mjtGeom.mjGEOM_SPHERE
SLIDE = mujoco.mjtJoint.mjJNT_SLIDE
HINGE = mujoco.mjtJoint.mjJNT_HINGE


def add_joint(
    body: mujoco.MjsBody,
    name: str,
    kind: mujoco.mjtJoint,
    axis: tuple[float, float, float],
    travel: tuple[float, float] | None,
    *,
    stiffness: float = 0.0,
    rest: float = 0.0,
    damping: float = 0.0,
    friction: float = 0.0,
    armature: float = 0.0,
) -> None:
    """Give a body its one joint.

    Args:
        body: The body.
        name: Of the joint.
        kind: ``SLIDE`` or ``HINGE``.
        axis: In the body's frame.
        travel: Limits, m or rad; None = unlimited.
        stiffness: Of a spring, N/m or Nm/rad.
        rest: Where that spring pulls to, m or rad.
        damping: Ns/m or Nms/rad.
        friction: Coulomb friction, N or Nm.
        armature: Added inertia, kg or kg m^2.
    """
    joint = body.add_joint(name=name, type=kind, axis=axis)
    if travel is not None:
        joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
        joint.range = travel
    joint.stiffness = np.array([stiffness, 0.0, 0.0])
    joint.damping = np.array([damping, 0.0, 0.0])
    joint.springref = rest
    joint.frictionloss = friction
    joint.armature = armature


def add_ring(
    body: mujoco.MjsBody,
    name: str,
    *,
    staves: int,
    radii: tuple[float, float],
    heights: tuple[float, float],
    thickness: float,
    **looks_and_contact: Any,
) -> None:
    """Add a ring of flat staves, leaning where the two radii differ.

    Args:
        body: Receives the geoms.
        name: Their names' beginning.
        staves: How many.
        radii: Of the staves' middle at the lower and at the upper end, m.
        heights: Of the two ends, m.
        thickness: Half the thickness of a stave, m.
        **looks_and_contact: Further attributes of the geoms.
    """
    lower, upper = radii
    bottom, top = heights
    lean = np.arctan2(upper - lower, top - bottom)
    length = np.hypot(upper - lower, top - bottom)
    middle = 0.5 * (upper + lower)
    for index in range(staves):
        angle = 2.0 * np.pi * index / staves
        quat_about_z = np.array([np.cos(0.5 * angle), 0.0, 0.0, np.sin(0.5 * angle)])
        quat_lean = np.array([np.cos(0.5 * lean), 0.0, np.sin(0.5 * lean), 0.0])
        quat = np.zeros(4)
        mujoco.mju_mulQuat(quat, quat_about_z, quat_lean)
        half_width = max(lower, upper) * np.tan(np.pi / staves) + 0.001
        body.add_geom(
            name=f"{name}_{index}",
            type=BOX,
            size=[thickness, half_width, 0.5 * length],
            pos=[middle * np.cos(angle), middle * np.sin(angle), 0.5 * (bottom + top)],
            quat=quat,
            **looks_and_contact,
        )


def yaw_quat(yaw: float) -> FloatArray:
    """Return the quaternion (wxyz) of a turn about the vertical, rad."""
    return np.array([np.cos(0.5 * yaw), 0.0, 0.0, np.sin(0.5 * yaw)])
