# SPDX-License-Identifier: Apache-2.0
"""The scene: table, cubes, props, lights and cameras around one robot.

One MuJoCo model per robot holds everything a task may need. A :class:`SceneLayout` says what of it
is on the table and where, and how the scene looks; laying it changes poses, colours, lights and
cameras of the compiled model, so a reset compiles nothing. What a task does not use is parked out
of sight, weightless.
"""

from __future__ import annotations

from vla_sim.scene.common import CUBE_SIZE, TABLE_CENTER, TABLE_SIZE
from vla_sim.scene.laying import lay, prop_poses, set_look
from vla_sim.scene.layout import COLORS, CubePose, Prop, SceneLayout, SceneLook
from vla_sim.scene.model import CAMERAS, OVERVIEW, build_model, dress_robot, set_options
from vla_sim.scene.objects import (
    OBJECTS,
    ObjectStates,
    observe_objects,
    present_objects,
    rest_height,
    write_object,
)
from vla_sim.scene.props import BOWL_HEIGHT, BOWL_RADIUS, FREE_PROPS, PROPS, ZONE_RADIUS

__all__ = [
    "BOWL_HEIGHT",
    "BOWL_RADIUS",
    "CAMERAS",
    "COLORS",
    "CUBE_SIZE",
    "FREE_PROPS",
    "OBJECTS",
    "OVERVIEW",
    "PROPS",
    "TABLE_CENTER",
    "TABLE_SIZE",
    "ZONE_RADIUS",
    "CubePose",
    "ObjectStates",
    "Prop",
    "SceneLayout",
    "SceneLook",
    "build_model",
    "dress_robot",
    "lay",
    "observe_objects",
    "present_objects",
    "prop_poses",
    "rest_height",
    "set_look",
    "set_options",
    "write_object",
]
