# SPDX-License-Identifier: Apache-2.0
"""Props to work with: peg and socket, plate with a mark, cup."""

from __future__ import annotations

import mujoco
import numpy as np

from vla_sim.scene.common import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    FIXED_CONTACT,
    FREE_CONTACT,
    MOVING_CONTACT,
    PARK,
    SLIDE,
    add_joint,
    add_ring,
)

PEG_WIDTH = 0.024
PEG_HEIGHT = 0.09
# The hole is so much wider than the peg.
CLEARANCE = 0.003
SOCKET_HEIGHT = 0.040
_CHAMFER = 0.006

PLATE_TOP = 0.012
MARK_DOTS = 5
MARK_SPACING = 0.014
# How far a dot of the mark stands out until it is wiped away, and the force that it takes.
DOT_HEIGHT = 0.0025
DOT_FORCE = 2.0

CUP_RADIUS = 0.027
CUP_HEIGHT = 0.075


def add_socket_and_peg(spec: mujoco.MjSpec) -> None:
    """A square peg that stands on the table, and a block with a chamfered hole for it."""
    spec.add_material(name="peg", rgba=[0.80, 0.20, 0.55, 1.0], specular=0.2)
    spec.add_material(name="socket", rgba=[0.30, 0.34, 0.42, 1.0], specular=0.2)
    spec.add_material(name="chamfer", rgba=[0.95, 0.85, 0.30, 1.0], specular=0.2)
    socket = spec.worldbody.add_body(name="socket", pos=PARK, mocap=True)
    hole = 0.5 * (PEG_WIDTH + CLEARANCE)
    wall = 0.5 * (0.045 - hole)
    straight = 0.5 * (SOCKET_HEIGHT - _CHAMFER)
    slope = 0.5 * np.hypot(_CHAMFER, _CHAMFER)
    for index in range(4):
        angle = 0.5 * np.pi * index
        cos, sin = np.cos(angle), np.sin(angle)
        quat = np.array([np.cos(0.5 * angle), 0.0, 0.0, np.sin(0.5 * angle)])
        socket.add_geom(
            name=f"socket_wall_{index}",
            type=BOX,
            size=[wall, 0.045, straight],
            pos=[(hole + wall) * cos, (hole + wall) * sin, straight],
            quat=quat,
            material="socket",
            **FIXED_CONTACT,
        )
        tilt = np.array([np.cos(np.pi / 8), 0.0, np.sin(np.pi / 8), 0.0])
        lean = np.zeros(4)
        mujoco.mju_mulQuat(lean, quat, tilt)
        # The face of this leaning plate is the chamfer: it rises outwards at 45 degrees.
        out = hole + 0.5 * _CHAMFER + 0.001 / np.sqrt(2.0)
        up = SOCKET_HEIGHT - 0.5 * _CHAMFER - 0.001 / np.sqrt(2.0)
        socket.add_geom(
            name=f"socket_chamfer_{index}",
            type=BOX,
            size=[0.001, hole + _CHAMFER, slope],
            pos=[out * cos, out * sin, up],
            quat=lean,
            material="chamfer",
            **FIXED_CONTACT,
        )
        rim = 0.5 * (0.045 - hole - _CHAMFER)
        socket.add_geom(
            name=f"socket_rim_{index}",
            type=BOX,
            size=[rim, 0.045, 0.5 * _CHAMFER],
            pos=[(0.045 - rim) * cos, (0.045 - rim) * sin, SOCKET_HEIGHT - 0.5 * _CHAMFER],
            quat=quat,
            material="socket",
            **FIXED_CONTACT,
        )
    peg = spec.worldbody.add_body(name="peg", pos=PARK)
    peg.add_freejoint(name="peg")
    peg.gravcomp = 1.0
    peg.add_geom(
        name="peg",
        type=BOX,
        size=[0.5 * PEG_WIDTH, 0.5 * PEG_WIDTH, 0.5 * PEG_HEIGHT],
        mass=0.05,
        material="peg",
        **FREE_CONTACT,
    )


def add_plate(spec: mujoco.MjSpec) -> None:
    """A plate with a mark of dots, each of which goes when it is pressed hard enough."""
    spec.add_material(name="plate", rgba=[0.97, 0.97, 0.97, 1.0], specular=0.3)
    spec.add_material(name="mark", rgba=[0.10, 0.10, 0.45, 1.0], specular=0.0)
    plate = spec.worldbody.add_body(name="plate", pos=PARK, mocap=True)
    plate.add_geom(
        name="plate",
        type=BOX,
        size=[0.055, 0.075, 0.5 * PLATE_TOP],
        pos=[0.0, 0.0, 0.5 * PLATE_TOP],
        material="plate",
        **FIXED_CONTACT,
    )
    for index in range(MARK_DOTS):
        along = (index - 0.5 * (MARK_DOTS - 1)) * MARK_SPACING
        dot = plate.add_body(name=f"mark_{index}", pos=[0.0, along, PLATE_TOP])
        add_joint(
            dot,
            f"mark_{index}",
            SLIDE,
            (0.0, 0.0, -1.0),
            (0.0, DOT_HEIGHT + 0.001),
            damping=20.0,
            friction=DOT_FORCE,
        )
        dot.gravcomp = 1.0
        dot.add_geom(
            name=f"mark_{index}",
            type=ELLIPSOID,
            size=[0.011, 0.009, DOT_HEIGHT],
            mass=0.01,
            material="mark",
            **MOVING_CONTACT,
        )


def add_cup(spec: mujoco.MjSpec) -> None:
    """A cup of flat staves to pick up and tilt; its origin is in the middle of its foot."""
    spec.add_material(name="cup", rgba=[0.20, 0.55, 0.75, 1.0], specular=0.3)
    cup = spec.worldbody.add_body(name="cup", pos=PARK)
    cup.add_freejoint(name="cup")
    cup.gravcomp = 1.0
    cup.add_geom(
        name="cup_bottom",
        type=CYLINDER,
        size=[CUP_RADIUS - 0.003, 0.003, 0.0],
        pos=[0.0, 0.0, 0.003],
        mass=0.02,
        material="cup",
        **FREE_CONTACT,
    )
    add_ring(
        cup,
        "cup_stave",
        staves=8,
        radii=(CUP_RADIUS - 0.002, CUP_RADIUS - 0.002),
        heights=(0.0, CUP_HEIGHT),
        thickness=0.002,
        mass=0.008,
        material="cup",
        **FREE_CONTACT,
    )
