# SPDX-License-Identifier: Apache-2.0
"""What a task is, how its scene is drawn and how an episode is judged."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field, replace

import numpy as np

from vla_sim.robots import RobotSpec
from vla_sim.scene import (
    CubePose,
    ObjectStates,
    Prop,
    SceneLayout,
    SceneLook,
    present_objects,
)
from vla_sim.typing import FloatArray

# Cubes lie with their centres in this rectangle of the base frame, m.
WORKSPACE_X = (0.35, 0.65)
WORKSPACE_Y = (-0.20, 0.20)
MAX_YAW = np.pi / 4
CUBE_SPACING = 0.095
BOWL_SPACING = 0.135
LIFTED_HEIGHT = 0.03
HOME_NOISE = 0.05
# s without touching anything that count as success when the target is absent.
ABSENT_TIME = 7.0
# An object so near to the tool has been approached, m: less than objects are apart.
APPROACHED = 0.06
# For so long after it was taken out of the fingers, contact with an object may linger, s.
_LETTING_GO = 0.1

Point = tuple[float, float]


class TaskError(ValueError):
    """A task is unknown."""


@dataclass(frozen=True)
class TaskInstance:
    """A task drawn with a seed.

    Attributes:
        task: Name of the task.
        seed: Seed of the draw.
        target: Name of the object that the robot shall do something to, one of ``scene.OBJECTS``.
        instruction: What the robot is told.
        layout: What is on the table at the start.
        reference: What else the instruction names: another object, or a side of the bowl.
        suite: Name of the suite that it was drawn for.
        absent: Whether the target is missing, so that nothing must be touched.
        drops: Whether the target is taken out of the fingers once.
    """

    task: str
    seed: int
    target: str
    instruction: str
    layout: SceneLayout
    reference: str = ""
    suite: str = "basic"
    absent: bool = False
    drops: bool = False

    def naming(self, target: str, task: Task) -> TaskInstance:
        """Return the same scene with another object named, in the canonical wording.

        Raises:
            TaskError: No such object is on the table.
        """
        present = present_objects(self.layout)
        if target not in present:
            raise TaskError(f"no {target!r} on the table; there are: {', '.join(present)}")
        instruction = task.instructions(target, self.reference)[0]
        return replace(self, target=target, instruction=instruction)


@dataclass(frozen=True)
class SceneState:
    """What a judge and an expert may know of the scene; never an input of a policy.

    Attributes:
        time: Since the start of the episode, s.
        positions: Of each object on the table, see ``scene.ObjectStates``, m.
        yaws: Yaw of each object, rad.
        speeds: Speed of each object, m/s or rad/s.
        finger_contacts: Per object, how many fingers touch it (0, 1, 2).
        gripper_opening: Distance between the pads, m.
        tool_position: In the base frame, m.
        first_touched: First object a finger touched since the start; None = none yet.
        first_lifted: First object that rose by more than 3 cm; None = none yet.
        bowl: Position (x, y) of the bowl, m; None = none.
        zone: Position (x, y) of the zone, m; None = none.
        travels: How far the joints of objects have moved, see ``scene.ObjectStates``.
        tilts: Angle of objects from upright, rad.
        axes: Upward axis of objects, unit vectors in the base frame.
        places: Position (x, y) of every prop at the start, m.
        peak_force: Largest force on both fingers together since the start, N.
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
    travels: dict[str, float] = field(default_factory=dict)
    tilts: dict[str, float] = field(default_factory=dict)
    axes: dict[str, FloatArray] = field(default_factory=dict)
    places: dict[str, Point] = field(default_factory=dict)
    peak_force: float = 0.0

    @staticmethod
    def of(
        layout: SceneLayout,
        objects: ObjectStates,
        *,
        time: float = 0.0,
        finger_contacts: dict[str, int] | None = None,
        gripper_opening: float = 0.0,
        tool_position: FloatArray | None = None,
        first_touched: str | None = None,
        first_lifted: str | None = None,
        peak_force: float = 0.0,
    ) -> SceneState:
        """Return the state of a scene that was laid by ``layout``; nothing touched by default."""
        bowl, zone = layout.prop("bowl"), layout.prop("zone")
        return SceneState(
            time=time,
            positions=objects.positions,
            yaws=objects.yaws,
            speeds=objects.speeds,
            finger_contacts=finger_contacts or dict.fromkeys(objects.positions, 0),
            gripper_opening=gripper_opening,
            tool_position=np.zeros(3) if tool_position is None else tool_position,
            first_touched=first_touched,
            first_lifted=first_lifted,
            bowl=bowl.place if bowl else None,
            zone=zone.place if zone else None,
            travels=objects.travels,
            tilts=objects.tilts,
            axes=objects.axes,
            places={prop.name: prop.place for prop in layout.props},
            peak_force=peak_force,
        )


@dataclass(frozen=True)
class Judgement:
    """How an episode stands.

    Attributes:
        success: Whether the task has been fulfilled; stays true once reached.
        time_to_success: s since the start; None while open.
        named_object: Name of the object to do something to.
        lifted_object: First object lifted by more than 3 cm.
        touched_object: First object touched by a finger.
        approached_object: First object that the tool came within 6 cm of; None = none.
        path_length: Way of the tool since the start, m.
        peak_force: Largest force on both fingers together, smoothed by 10 ms, N.
        dropped: Whether the object was taken out of the fingers.
        retouched: Whether a finger touched it again after that.
        details: Measures for people to read.
    """

    success: bool
    time_to_success: float | None
    named_object: str
    lifted_object: str | None
    touched_object: str | None
    approached_object: str | None
    path_length: float
    peak_force: float
    dropped: bool
    retouched: bool
    details: str


@dataclass(frozen=True)
class Arrangement:
    """What a task puts on the table.

    Attributes:
        target: Name of the object to do something to.
        reference: What else the instruction names; empty = nothing.
        cubes: The cubes.
        props: Everything else.
    """

    target: str
    reference: str
    cubes: tuple[CubePose, ...]
    props: tuple[Prop, ...] = ()


class Task(abc.ABC):
    """A task: how its scene is drawn, what the robot is told, what counts as success.

    Attributes:
        name: Short name.
        templates: Wordings of the instruction, the canonical one first.
        paraphrases: Wordings that no demonstration uses.
        hold_time: How long the condition has to hold, s.
        time_limit: Simulated time that an episode may take, s; about twice what the expert needs.
        grasps: Whether the object is held on the way, so that it can be lost.
        target_range: Rectangle (x, y) in which the target stands, m.
    """

    name: str
    templates: tuple[str, ...]
    paraphrases: tuple[str, ...]
    hold_time: float = 0.0
    time_limit: float = 12.0
    grasps: bool = False
    target_range: tuple[Point, Point] = (WORKSPACE_X, WORKSPACE_Y)

    @abc.abstractmethod
    def fulfilled(self, state: SceneState, target: str, reference: str = "") -> bool:
        """Return whether the condition holds in this instant."""

    @abc.abstractmethod
    def describe(self, state: SceneState, target: str, reference: str = "") -> str:
        """Return the task's own measures for people to read."""

    @abc.abstractmethod
    def arrange(self, rng: np.random.Generator) -> Arrangement:
        """Draw what is on the table, and what of it is named."""

    @abc.abstractmethod
    def orders(self) -> tuple[tuple[str, str], ...]:
        """Return every pair of target and reference that an instruction may name."""

    @abc.abstractmethod
    def leaves_room(self, point: Point, arrangement: Arrangement) -> bool:
        """Return whether a thing of a cube's size at ``point`` leaves room for the task."""

    def aim(self, state: SceneState, target: str, reference: str) -> FloatArray | None:
        """Return where the task takes the target: a point (x, y, z), m; None = nowhere.

        With an object held, z is the height at which it comes to rest.
        """
        del state, target, reference
        return None

    def instructions(self, target: str, reference: str = "") -> tuple[str, ...]:
        """Return the wordings of demonstrations for an order, the canonical one first."""
        return _filled(self.templates, target, reference)

    def held_out_instructions(self, target: str, reference: str = "") -> tuple[str, ...]:
        """Return the wordings for an order that no demonstration uses."""
        return _filled(self.paraphrases, target, reference)

    def sample(self, rng: np.random.Generator, robot: RobotSpec, seed: int = -1) -> TaskInstance:
        """Draw an instance: what is on the table, look, wording and start posture.

        Args:
            rng: Source of all randomness.
            robot: The robot, for its home posture.
            seed: Noted in the instance.
        """
        drawn = self.arrange(rng)
        q = robot.home_q + rng.uniform(-HOME_NOISE, HOME_NOISE, len(robot.home_q))
        wordings = self.instructions(drawn.target, drawn.reference)
        instruction = wordings[int(rng.integers(len(wordings)))]
        layout = SceneLayout(drawn.cubes, drawn.props, q, SceneLook.sample(rng))
        return TaskInstance(self.name, seed, drawn.target, instruction, layout, drawn.reference)

    def draw(self, seed: int, robot: RobotSpec) -> TaskInstance:
        """Draw the instance that belongs to a seed, as it is in the suite ``basic``."""
        return self.sample(np.random.default_rng([seed, *self.name.encode()]), robot, seed)


@dataclass
class Judge:
    """Follows an episode and says how it stands.

    With the target absent, success is to have touched nothing for ``ABSENT_TIME``.

    Attributes:
        task: The task.
        target: Name of the object to do something to.
        reference: What else is named.
        absent: Whether the target is missing.
    """

    task: Task
    target: str
    reference: str = ""
    absent: bool = False
    _since: float | None = field(default=None, repr=False)
    _success_time: float | None = field(default=None, repr=False)
    _approached: str | None = field(default=None, repr=False)
    _path_length: float = field(default=0.0, repr=False)
    _last_position: FloatArray | None = field(default=None, repr=False)
    _drop_time: float | None = field(default=None, repr=False)
    _retouched: bool = field(default=False, repr=False)

    @property
    def drop_time(self) -> float | None:
        """When the object was taken out of the fingers, s since the start; None = it was not."""
        return self._drop_time

    def note_drop(self, state: SceneState) -> None:
        """Take note that the object is taken out of the fingers now."""
        self._drop_time = state.time

    def update(self, state: SceneState) -> None:
        """Take note of an instant; instants come in the order of time."""
        self._measure(state)
        if self._success_time is not None:
            return
        if not self._fulfilled(state):
            self._since = None
            return
        if self._since is None:
            self._since = state.time
        hold_time = ABSENT_TIME if self.absent else self.task.hold_time
        if state.time - self._since >= hold_time - 1e-9:
            self._success_time = state.time

    def judgement(self, state: SceneState) -> Judgement:
        """Return how the episode stands."""
        return Judgement(
            success=self._success_time is not None,
            time_to_success=self._success_time,
            named_object=self.target,
            lifted_object=state.first_lifted,
            touched_object=state.first_touched,
            approached_object=self._approached,
            path_length=self._path_length,
            peak_force=state.peak_force,
            dropped=self._drop_time is not None,
            retouched=self._retouched,
            details=self._describe(state),
        )

    def _measure(self, state: SceneState) -> None:
        if self._last_position is not None:
            step = state.tool_position - self._last_position
            self._path_length += float(np.linalg.norm(step))
        self._last_position = state.tool_position.copy()
        if self._drop_time is not None and state.time > self._drop_time + _LETTING_GO:
            self._retouched = self._retouched or state.finger_contacts[self.target] > 0
        if self._approached is None and state.positions:
            away = {n: np.linalg.norm(state.tool_position - p) for n, p in state.positions.items()}
            nearest = min(away, key=lambda name: float(away[name]))
            self._approached = nearest if away[nearest] < APPROACHED else None

    def _fulfilled(self, state: SceneState) -> bool:
        if self.absent:
            return state.first_touched is None
        return self.task.fulfilled(state, self.target, self.reference)

    def _describe(self, state: SceneState) -> str:
        if self.absent:
            return f"no {self.target} there; first touched: {state.first_touched or 'nothing'}"
        return self.task.describe(state, self.target, self.reference)

    def copy(self) -> Judge:
        """Return a judge that knows what this one knows."""
        return replace(self)


def _filled(templates: tuple[str, ...], target: str, reference: str) -> tuple[str, ...]:
    return tuple(text.format(target=target, reference=reference) for text in templates)
