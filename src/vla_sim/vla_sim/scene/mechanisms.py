# SPDX-License-Identifier: Apache-2.0
"""Props with a joint: drawer, buttons, knob and turntable."""

from __future__ import annotations

import mujoco
import numpy as np

from vla_sim.scene.common import (
    BOX,
    CYLINDER,
    FIXED_CONTACT,
    HINGE,
    MOVING_CONTACT,
    NO_CONTACT,
    PARK,
    SLIDE,
    add_joint,
)
from vla_sim.scene.layout import COLORS

# The drawer opens along -x of its cabinet, whose origin is in the middle of its foot.
DRAWER_TRAVEL = 0.10
CABINET_DEPTH, CABINET_WIDTH, CABINET_HEIGHT = 0.13, 0.13, 0.055
_FRONT = -0.5 * CABINET_DEPTH - 0.008
HANDLE_GAP = 0.044
_BAR = 0.005
# Middle of the gap between handle and front, where a finger hooks in.
HANDLE_POINT = np.array([_FRONT - 0.5 * HANDLE_GAP, 0.0, 0.036])

# Top of a button's cap, and how deep it can be pressed.
BUTTON_TOP = 0.030
BUTTON_TRAVEL = 0.010

# Middle of the knob's wing, which is thin across y at angle 0.
KNOB_HEIGHT = 0.042
KNOB_WIDTH = 0.014
KNOB_TRAVEL = np.deg2rad(85.0)

# The puck rides on the turntable's rim.
PUCK_ORBIT = 0.085
PUCK_TOP = 0.046
PUCK_RADIUS = 0.024


def add_drawer(spec: mujoco.MjSpec) -> None:
    """A low cabinet with one drawer and a bow handle."""
    spec.add_material(name="cabinet", rgba=[0.36, 0.24, 0.16, 1.0], specular=0.1)
    spec.add_material(name="drawer", rgba=[0.62, 0.44, 0.28, 1.0], specular=0.1)
    spec.add_material(name="handle", rgba=[0.10, 0.10, 0.12, 1.0], specular=0.5, shininess=0.6)
    cabinet = spec.worldbody.add_body(name="drawer", pos=PARK, mocap=True)
    depth, width, height = 0.5 * CABINET_DEPTH, 0.5 * CABINET_WIDTH, CABINET_HEIGHT
    walls = {
        "top": ([depth, width, 0.003], [0.0, 0.0, height - 0.003]),
        "left": ([depth, 0.003, 0.5 * height], [0.0, width - 0.003, 0.5 * height]),
        "right": ([depth, 0.003, 0.5 * height], [0.0, -width + 0.003, 0.5 * height]),
        "back": ([0.003, width, 0.5 * height], [depth - 0.003, 0.0, 0.5 * height]),
    }
    for name, (size, position) in walls.items():
        cabinet.add_geom(
            name=f"cabinet_{name}",
            type=BOX,
            size=size,
            pos=position,
            material="cabinet",
            **FIXED_CONTACT,
        )
    box = cabinet.add_body(name="drawer_box")
    add_joint(
        box, "drawer", SLIDE, (-1.0, 0.0, 0.0), (0.0, DRAWER_TRAVEL), damping=4.0, friction=1.0
    )
    bar = _FRONT - HANDLE_GAP - _BAR
    post = 0.5 * HANDLE_GAP
    parts = {
        "front": ("drawer", [0.004, 0.065, 0.024], [_FRONT + 0.004, 0.0, 0.028]),
        "floor": ("drawer", [0.055, 0.054, 0.002], [-0.010, 0.0, 0.008]),
        "side_left": ("drawer", [0.055, 0.002, 0.018], [-0.010, 0.053, 0.025]),
        "side_right": ("drawer", [0.055, 0.002, 0.018], [-0.010, -0.053, 0.025]),
        "bar": ("handle", [_BAR, 0.042, _BAR], [bar, 0.0, HANDLE_POINT[2]]),
        "post_left": ("handle", [post, 0.004, 0.004], [_FRONT - post, 0.038, HANDLE_POINT[2]]),
        "post_right": ("handle", [post, 0.004, 0.004], [_FRONT - post, -0.038, HANDLE_POINT[2]]),
    }
    for name, (material, size, position) in parts.items():
        box.add_geom(
            name=f"drawer_{name}",
            type=BOX,
            size=size,
            pos=position,
            mass=0.04,
            material=material,
            **MOVING_CONTACT,
        )


def add_buttons(spec: mujoco.MjSpec) -> None:
    """A sprung push button per colour, on a dark foot."""
    spec.add_material(name="foot", rgba=[0.15, 0.16, 0.19, 1.0], specular=0.2)
    for color in COLORS:
        name = f"button_{color}"
        foot = spec.worldbody.add_body(name=name, pos=PARK, mocap=True)
        foot.add_geom(
            name=f"{name}_foot",
            type=CYLINDER,
            size=[0.034, 0.007, 0.0],
            pos=[0.0, 0.0, 0.007],
            material="foot",
            **FIXED_CONTACT,
        )
        cap = foot.add_body(name=f"{name}_cap", pos=[0.0, 0.0, 0.022])
        add_joint(
            cap,
            name,
            SLIDE,
            (0.0, 0.0, -1.0),
            (0.0, BUTTON_TRAVEL),
            stiffness=250.0,
            rest=-0.004,
            damping=3.0,
        )
        cap.add_geom(
            name=f"{name}_cap",
            type=CYLINDER,
            size=[0.023, BUTTON_TOP - 0.022, 0.0],
            mass=0.02,
            material=f"cube_{color}",
            **MOVING_CONTACT,
        )


def add_knob(spec: mujoco.MjSpec) -> None:
    """A rotary knob with a wing to grasp and a mark that shows where it points."""
    spec.add_material(name="wing", rgba=[0.93, 0.93, 0.95, 1.0], specular=0.3)
    base = spec.worldbody.add_body(name="knob", pos=PARK, mocap=True)
    base.add_geom(
        name="knob_base",
        type=CYLINDER,
        size=[0.045, 0.008, 0.0],
        pos=[0.0, 0.0, 0.008],
        material="foot",
        **FIXED_CONTACT,
    )
    wing = base.add_body(name="knob_wing")
    add_joint(
        wing,
        "knob",
        HINGE,
        (0.0, 0.0, 1.0),
        (-KNOB_TRAVEL, KNOB_TRAVEL),
        damping=0.02,
        friction=0.04,
        armature=1e-4,
    )
    parts = {
        "disc": (CYLINDER, "wing", [0.030, 0.004, 0.0], [0.0, 0.0, 0.020]),
        "wing": (BOX, "wing", [0.030, 0.5 * KNOB_WIDTH, 0.014], [0.0, 0.0, KNOB_HEIGHT - 0.004]),
    }
    for name, (kind, material, size, position) in parts.items():
        wing.add_geom(
            name=f"knob_{name}",
            type=kind,
            size=size,
            pos=position,
            mass=0.03,
            material=material,
            **MOVING_CONTACT,
        )
    wing.add_geom(
        name="knob_mark",
        type=BOX,
        size=[0.010, 0.5 * KNOB_WIDTH, 0.001],
        pos=[0.020, 0.0, KNOB_HEIGHT + 0.0105],
        mass=0.001,
        material="zone",
        **NO_CONTACT,
    )


def add_turntable(spec: mujoco.MjSpec) -> None:
    """A turntable with a motor, which carries a puck round."""
    spec.add_material(name="puck", rgba=[0.98, 0.45, 0.05, 1.0], specular=0.2)
    spec.add_material(name="turntable", rgba=[0.62, 0.66, 0.70, 1.0], specular=0.2)
    base = spec.worldbody.add_body(name="turntable", pos=PARK, mocap=True)
    base.add_geom(
        name="turntable_base",
        type=CYLINDER,
        size=[0.10, 0.003, 0.0],
        pos=[0.0, 0.0, 0.003],
        material="foot",
        **FIXED_CONTACT,
    )
    disc = base.add_body(name="turntable_disc")
    add_joint(disc, "turntable", HINGE, (0.0, 0.0, 1.0), None, armature=0.01)
    # So strong that fingers on the puck do not slow it.
    motor = spec.add_actuator(
        name="turntable", target="turntable", trntype=mujoco.mjtTrn.mjTRN_JOINT
    )
    motor.set_to_velocity(kv=5.0)
    disc.add_geom(
        name="turntable_disc",
        type=CYLINDER,
        size=[0.115, 0.004, 0.0],
        pos=[0.0, 0.0, 0.010],
        mass=0.2,
        material="turntable",
        **MOVING_CONTACT,
    )
    disc.add_geom(
        name="turntable_puck",
        type=CYLINDER,
        size=[PUCK_RADIUS, 0.5 * (PUCK_TOP - 0.014), 0.0],
        pos=[PUCK_ORBIT, 0.0, 0.5 * (PUCK_TOP + 0.014)],
        mass=0.05,
        material="puck",
        **MOVING_CONTACT,
    )
