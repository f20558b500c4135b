# SPDX-License-Identifier: Apache-2.0
"""Everything that may stand on the table beside cubes."""

from __future__ import annotations

import mujoco
import numpy as np

from vla_sim.scene import mechanisms, tools
from vla_sim.scene.common import (
    BOX,
    CYLINDER,
    FIXED_CONTACT,
    NO_CONTACT,
    PARK,
    SPHERE,
    add_ring,
)
from vla_sim.scene.layout import COLORS

BOWL_RADIUS = 0.07
BOWL_HEIGHT = 0.038
ZONE_RADIUS = 0.06
ZONE_RGB = np.array([0.86, 0.20, 0.75])
BOWL_RGB = np.array([0.93, 0.93, 0.96])

# Things of no task, in no colour of a cube, to look at and to avoid.
CLUTTER = ("can", "brick", "ball")
# Props that can be picked up; the others stand fast, as if stuck to the table.
FREE_PROPS = {"peg": 0.5 * tools.PEG_HEIGHT, "cup": 0.0}

PROPS = (
    "bowl",
    "zone",
    "drawer",
    *(f"button_{color}" for color in COLORS),
    "knob",
    "turntable",
    "socket",
    "plate",
    *CLUTTER,
    *FREE_PROPS,
)


def add_props(spec: mujoco.MjSpec) -> None:
    """Add every prop, parked. The colours of cubes must be materials already."""
    _add_zone(spec)
    _add_bowl(spec)
    mechanisms.add_drawer(spec)
    mechanisms.add_buttons(spec)
    mechanisms.add_knob(spec)
    mechanisms.add_turntable(spec)
    tools.add_socket_and_peg(spec)
    tools.add_plate(spec)
    tools.add_cup(spec)
    _add_clutter(spec)


def _add_zone(spec: mujoco.MjSpec) -> None:
    zone = spec.worldbody.add_body(name="zone", pos=PARK, mocap=True)
    spec.add_material(name="zone", rgba=[*ZONE_RGB, 1.0], specular=0.0)
    zone.add_geom(
        name="zone",
        type=CYLINDER,
        size=[ZONE_RADIUS, 0.0006, 0.0],
        material="zone",
        **NO_CONTACT,
    )


def _add_bowl(spec: mujoco.MjSpec) -> None:
    """A bowl of flat staves around a disc."""
    bowl = spec.worldbody.add_body(name="bowl", pos=PARK, mocap=True)
    spec.add_material(name="bowl", rgba=[*BOWL_RGB, 1.0], specular=0.3, shininess=0.5)
    bottom = 0.048
    bowl.add_geom(
        name="bowl_bottom",
        type=CYLINDER,
        size=[bottom, 0.003, 0.0],
        pos=[0.0, 0.0, 0.003],
        material="bowl",
        **FIXED_CONTACT,
    )
    add_ring(
        bowl,
        "bowl_stave",
        staves=12,
        radii=(bottom, BOWL_RADIUS),
        heights=(0.0, BOWL_HEIGHT),
        thickness=0.003,
        material="bowl",
        **FIXED_CONTACT,
    )


def _add_clutter(spec: mujoco.MjSpec) -> None:
    shapes = {
        "can": (CYLINDER, [0.019, 0.024, 0.0], 0.024, (0.50, 0.22, 0.62)),
        "brick": (BOX, [0.028, 0.015, 0.014], 0.014, (0.10, 0.58, 0.58)),
        "ball": (SPHERE, [0.021, 0.0, 0.0], 0.021, (0.42, 0.26, 0.14)),
    }
    for name, (kind, size, height, rgb) in shapes.items():
        body = spec.worldbody.add_body(name=name, pos=PARK, mocap=True)
        spec.add_material(name=name, rgba=[*rgb, 1.0], specular=0.15, shininess=0.2)
        body.add_geom(
            name=name, type=kind, size=size, pos=[0, 0, height], material=name, **FIXED_CONTACT
        )
