# SPDX-License-Identifier: Apache-2.0
"""What is on the table and how it looks: the data that a task draws and the scene lays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vla_sim.typing import FloatArray

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.08, 0.08),
    "green": (0.08, 0.62, 0.14),
    "blue": (0.08, 0.20, 0.85),
    "yellow": (0.95, 0.80, 0.05),
}


@dataclass(frozen=True)
class CubePose:
    """Where a cube lies on the table.

    Attributes:
        color: One of ``COLORS``.
        x: Position in the base frame, m.
        y: Position in the base frame, m.
        yaw: Rotation about the vertical, rad.
    """

    color: str
    x: float
    y: float
    yaw: float


@dataclass(frozen=True)
class Prop:
    """Where something other than a cube stands.

    Attributes:
        name: One of ``scene.PROPS``.
        x: Position in the base frame, m.
        y: Position in the base frame, m.
        yaw: Rotation about the vertical, rad.
        joint: Where its joint is at the start, rad or m; of what has one.
        speed: How fast its joint moves at the start, rad/s or m/s.
    """

    name: str
    x: float
    y: float
    yaw: float = 0.0
    joint: float = 0.0
    speed: float = 0.0

    @property
    def place(self) -> tuple[float, float]:
        """Position (x, y), m."""
        return self.x, self.y


@dataclass(frozen=True)
class SceneLook:
    """How the scene looks: small draws around the nominal appearance.

    Attributes:
        light_position: Main light in the base frame, m.
        light_diffuse: Brightness of the main light, 0..1.
        light_ambient: Brightness from everywhere, 0..1.
        camera_position_offset: Shift of the scene camera, m.
        camera_target_offset: Shift of the point it looks at, m.
        color_offsets: Added to the RGB of table, zone, bowl and the four cubes, shape (7, 3).
        light_tint: Factor on red, green and blue of all light, shape (3,).
    """

    light_position: FloatArray
    light_diffuse: float
    light_ambient: float
    camera_position_offset: FloatArray
    camera_target_offset: FloatArray
    color_offsets: FloatArray
    light_tint: FloatArray = field(default_factory=lambda: np.ones(3))

    @staticmethod
    def nominal() -> SceneLook:
        """Return the appearance without any variation."""
        return SceneLook(
            light_position=np.array([1.15, 0.35, 1.8]),
            light_diffuse=0.42,
            light_ambient=0.58,
            camera_position_offset=np.zeros(3),
            camera_target_offset=np.zeros(3),
            color_offsets=np.zeros((7, 3)),
        )

    @staticmethod
    def sample(rng: np.random.Generator) -> SceneLook:
        """Draw a modest variation of the nominal appearance."""
        nominal = SceneLook.nominal()
        return SceneLook(
            light_position=nominal.light_position + rng.uniform(-1, 1, 3) * [0.25, 0.5, 0.2],
            light_diffuse=nominal.light_diffuse + float(rng.uniform(-0.10, 0.10)),
            light_ambient=nominal.light_ambient + float(rng.uniform(-0.06, 0.06)),
            camera_position_offset=rng.uniform(-0.015, 0.015, 3),
            camera_target_offset=rng.uniform(-0.008, 0.008, 3),
            color_offsets=rng.uniform(-0.04, 0.04, (7, 3)),
        )


@dataclass(frozen=True)
class SceneLayout:
    """What is on the table at the start of an episode.

    Attributes:
        cubes: The cubes on the table.
        props: Everything else on it.
        q: Arm joints at the start, rad.
        look: How it looks.
        friction: Factor on the friction of cubes and of what else can be picked up.
        mass: Factor on their mass.
    """

    cubes: tuple[CubePose, ...]
    props: tuple[Prop, ...]
    q: FloatArray
    look: SceneLook
    friction: float = 1.0
    mass: float = 1.0

    def prop(self, name: str) -> Prop | None:
        """Return the prop of a name; None = it is not there."""
        return next((prop for prop in self.props if prop.name == name), None)
