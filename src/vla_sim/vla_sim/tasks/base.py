# SPDX-License-Identifier: Apache-2.0
"""What a task is, how its scene is drawn and how an episode is judged."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field, replace

import numpy as np

from vla_sim.robots import RobotSpec
from vla_sim.scene import COLORS, CubePose, SceneLayout, SceneLook
from vla_sim.typing import FloatArray

# Cubes lie with their centres in this rectangle of the base frame, m.
WORKSPACE_X = (0.35, 0.65)
WORKSPACE_Y = (-0.20, 0.20)
MAX_YAW = np.pi / 4
CUBE_SPACING = 0.095
BOWL_SPACING = 0.135
LIFTED_HEIGHT = 0.03
HOME_NOISE = 0.05

Point = tuple[float, float]


class TaskError(ValueError):
    """A task is unknown."""


@dataclass(frozen=True)
class TaskInstance:
    """A task drawn with a seed.

    Attributes:
        task: Name of the task.
        seed: Seed of the draw.
        target: Colour of the cube that is named.
        instruction: What the robot is told.
        layout: What is on the table at the start.
    """

    task: str
    seed: int
    target: str
    instruction: str
    layout: SceneLayout

    def naming(self, target: str, task: Task) -> TaskInstance:
        """Return the same scene with another cube named, in the canonical wording.

        Raises:
            TaskError: No such cube is on the table.
        """
        present = [cube.color for cube in self.layout.cubes]
        if target not in present:
            raise TaskError(f"no {target!r} cube on the table; there are: {', '.join(present)}")
        return replace(self, target=target, instruction=task.instructions(target)[0])


@dataclass(frozen=True)
class SceneState:
    """What a judge and an expert may know of the scene; never an input of a policy.

    Attributes:
        time: Since the start of the episode, s.
        positions: Centre of each cube on the table in the base frame, m.
        yaws: Yaw of each cube, rad.
        speeds: Linear speed of each cube, m/s.
        finger_contacts: Per cube, how many fingers touch it (0, 1, 2).
        gripper_opening: Distance between the pads, m.
        tool_position: In the base frame, m.
        first_touched: First cube a finger touched since the start; None = none yet.
        first_lifted: First cube that rose by more than 3 cm; None = none yet.
        bowl: Position (x, y) of the bowl, m; None = none.
        zone: Position (x, y) of the zone, m; None = none.
    """

    time: float
    positions: dict[str, FloatArray]
    yaws: dict[str, float]
    speeds: dict[str, float]
    finger_contacts: dict[str, int]
    gripper_opening: float
    tool_position: FloatArray
    first_touched: str | None
    first_lifted: str | None
    bowl: Point | None
    zone: Point | None


@dataclass(frozen=True)
class Judgement:
    """How an episode stands.

    Attributes:
        success: Whether the task has been fulfilled; stays true once reached.
        time_to_success: s since the start; None while open.
        named_object: Colour of the cube that is named.
        lifted_object: First cube lifted by more than 3 cm.
        touched_object: First cube touched by a finger.
        details: Measures for people to read.
    """

    success: bool
    time_to_success: float | None
    named_object: str
    lifted_object: str | None
    touched_object: str | None
    details: str


class Task(abc.ABC):
    """A task: how its scene is drawn, what the robot is told, what counts as success.

    Attributes:
        name: Short name.
        templates: Wordings of the instruction, the canonical one first.
        hold_time: How long the condition has to hold, s.
    """

    name: str
    templates: tuple[str, ...]
    hold_time: float = 0.0

    @abc.abstractmethod
    def fulfilled(self, state: SceneState, target: str) -> bool:
        """Return whether the condition holds in this instant."""

    @abc.abstractmethod
    def describe(self, state: SceneState, target: str) -> str:
        """Return the task's own measures for people to read."""

    def draw_props(
        self, rng: np.random.Generator, named: Point
    ) -> tuple[Point | None, Point | None] | None:
        """Draw bowl and zone for a named cube at ``named``; None = this cube has no room."""
        del rng, named
        return None, None

    def leaves_room(
        self, cube: Point, named: Point, bowl: Point | None, zone: Point | None
    ) -> bool:
        """Return whether a distractor at ``cube`` leaves room for the task."""
        del named, zone
        return bowl is None or _distance(cube, bowl) >= BOWL_SPACING

    def instructions(self, target: str) -> tuple[str, ...]:
        """Return all wordings for a cube, the canonical one first."""
        return tuple(template.format(color=target) for template in self.templates)

    def sample(self, rng: np.random.Generator, robot: RobotSpec, seed: int = -1) -> TaskInstance:
        """Draw an instance: two or three distractors, poses, look, wording and start posture.

        Args:
            rng: Source of all randomness.
            robot: The robot, for its home posture.
            seed: Noted in the instance.
        """
        colors = [str(color) for color in rng.permutation(list(COLORS))]
        colors = colors[: int(rng.integers(3, 5))]
        places, bowl, zone = self._draw_places(rng, len(colors))
        cubes = tuple(
            CubePose(color, x, y, float(rng.uniform(-MAX_YAW, MAX_YAW)))
            for color, (x, y) in zip(colors, places, strict=True)
        )
        q = robot.home_q + rng.uniform(-HOME_NOISE, HOME_NOISE, len(robot.home_q))
        wordings = self.instructions(colors[0])
        instruction = wordings[int(rng.integers(len(wordings)))]
        layout = SceneLayout(cubes, bowl, zone, q, SceneLook.sample(rng))
        return TaskInstance(self.name, seed, colors[0], instruction, layout)

    def draw(self, seed: int, robot: RobotSpec) -> TaskInstance:
        """Draw the instance that belongs to a seed."""
        return self.sample(np.random.default_rng([seed, *self.name.encode()]), robot, seed)

    def _draw_places(
        self, rng: np.random.Generator, count: int
    ) -> tuple[list[Point], Point | None, Point | None]:
        while True:
            named = _draw_point(rng)
            props = self.draw_props(rng, named)
            if props is None:
                continue
            bowl, zone = props
            places = [named]
            for _ in range(200):
                if len(places) == count:
                    return places, bowl, zone
                point = _draw_point(rng)
                apart = all(_distance(point, other) >= CUBE_SPACING for other in places)
                if apart and self.leaves_room(point, named, bowl, zone):
                    places.append(point)


@dataclass
class Judge:
    """Follows an episode and says how it stands.

    Attributes:
        task: The task.
        target: Colour of the cube that is named.
    """

    task: Task
    target: str
    _since: float | None = field(default=None, repr=False)
    _success_time: float | None = field(default=None, repr=False)

    def update(self, state: SceneState) -> None:
        """Take note of an instant; instants come in the order of time."""
        if self._success_time is not None:
            return
        if not self.task.fulfilled(state, self.target):
            self._since = None
            return
        if self._since is None:
            self._since = state.time
        if state.time - self._since >= self.task.hold_time - 1e-9:
            self._success_time = state.time

    def judgement(self, state: SceneState) -> Judgement:
        """Return how the episode stands."""
        return Judgement(
            success=self._success_time is not None,
            time_to_success=self._success_time,
            named_object=self.target,
            lifted_object=state.first_lifted,
            touched_object=state.first_touched,
            details=self.task.describe(state, self.target),
        )

    def copy(self) -> Judge:
        """Return a judge that knows what this one knows."""
        return replace(self)


def _draw_point(rng: np.random.Generator) -> Point:
    return float(rng.uniform(*WORKSPACE_X)), float(rng.uniform(*WORKSPACE_Y))


def _distance(a: Point, b: Point) -> float:
    return float(np.hypot(a[0] - b[0], a[1] - b[1]))


def distance_to_segment(point: Point, start: Point, end: Point) -> float:
    """Return the distance of a point from the segment between two others, m."""
    p, a, b = (np.array(v) for v in (point, start, end))
    share = np.clip(np.dot(p - a, b - a) / np.dot(b - a, b - a), 0.0, 1.0)
    return float(np.linalg.norm(a + share * (b - a) - p))
