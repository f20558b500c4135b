# SPDX-License-Identifier: Apache-2.0
"""One robot at one task: MuJoCo, the controller and the loop that steps both at 1 kHz."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

import mujoco
import numpy as np

import vla_control
from vla_sim import collision, position_drives, robots, scene, suites, tasks
from vla_sim._core import Law, Loop, Plant, PlantMemory, Snapshot
from vla_sim._core import PlantConfig as _CorePlantConfig
from vla_sim._core import PlantLayout as _CorePlantLayout
from vla_sim.rendering import Renderer
from vla_sim.tasks import Judge, Judgement, SceneState, TaskInstance
from vla_sim.typing import FloatArray, ImageArray

# A judge looks at the scene every 20 ms of simulated time.
_JUDGE_PERIOD = 20
# An object that is to be lost is taken out of the fingers when it has risen by so much, m.
_DROP_RISE = 0.05
# A bowl is wider than a cube by so much, m.
_BOWL_ROOM = 0.04


@dataclass(frozen=True)
class PlantConfig:
    """Constants of the simulated hardware.

    Attributes:
        gravity_compensation: Whether the drives carry the weight of the arm, as a Franka's do;
            otherwise the controller's torque has to contain it.
        coulomb_friction: Per arm joint, Nm.
        viscous_friction: Per arm joint, Nms/rad.
        actuation_delay: Whether torques act one cycle late.
        gripper_speed: Largest speed of the opening, m/s.
    """

    gravity_compensation: bool = True
    coulomb_friction: float = 0.2
    viscous_friction: float = 0.5
    actuation_delay: bool = True
    gripper_speed: float = 0.2


@dataclass(frozen=True)
class SimObservation:
    """What a policy may see.

    Attributes:
        stamp_ns: When it was taken, on the controller's clock.
        images: Per camera, shape (size, size, 3), RGB.
        q: Arm joints, rad.
        dq: Arm joints, rad/s.
        gripper_opening: Distance between the pads, m.
        pose_tool_in_base: Forward kinematics of ``q``, shape (4, 4).
        instruction: What the robot is told.
    """

    stamp_ns: int
    images: dict[str, ImageArray]
    q: FloatArray
    dq: FloatArray
    gripper_opening: float
    pose_tool_in_base: FloatArray
    instruction: str


@dataclass(frozen=True)
class SimSnapshot:
    """Everything of a simulation but its controller, which starts anew in a hold when restored."""

    instance: TaskInstance
    physics: FloatArray
    memory: PlantMemory
    time_ns: int
    cycles: int
    judge: Judge = field(repr=False)


class Simulation:
    """One robot at one task, in lockstep or in real time.

    An arm whose drives take positions only is told positions: position tracking, not compliant.

    All methods are for one thread. While running in real time the C++ thread owns the plant; then
    only ``observe``, ``push_chunk``, ``judge``, ``render``, ``scene_state`` and the properties may
    be used.

    Args:
        robot: Name of the robot.
        task: Name of the task.
        seed: Seed of the scene.
        cameras: Cameras to render in ``observe``.
        image_size: Side of the images, px.
        plant: Constants of the hardware.
        controller_overrides: Attributes of the controller's configuration to set. With
            ``barrier__distance_braking`` at 0 nothing keeps the arm off itself and the table.
        suite: Name of the suite that scenes are drawn for.
    """

    def __init__(
        self,
        robot: str = "panda",
        task: str = "pick",
        seed: int = 0,
        *,
        cameras: tuple[str, ...] = scene.CAMERAS,
        image_size: int = 96,
        plant: PlantConfig | None = None,
        controller_overrides: dict[str, Any] | None = None,
        suite: str = "basic",
    ) -> None:
        unknown = [camera for camera in cameras if camera not in scene.CAMERAS]
        if unknown:
            raise ValueError(f"unknown cameras {unknown}; valid: {', '.join(scene.CAMERAS)}")
        self.robot = robots.get(robot)
        self.cameras = cameras
        self.image_size = image_size
        self.plant_config = plant or PlantConfig()
        self.model = scene.build_model(
            self.robot,
            gravity_compensation=self.plant_config.gravity_compensation,
            coulomb_friction=self.plant_config.coulomb_friction,
            viscous_friction=self.plant_config.viscous_friction,
        )
        self.data = mujoco.MjData(self.model)
        arm, gravity = self.robot.arm, not self.plant_config.gravity_compensation
        positions = position_drives.required(arm)
        overrides = {
            "command_includes_gravity": gravity,
            "barrier__distance_braking": collision.BRAKING,
            **(position_drives.settings(arm) if positions else {}),
            **(controller_overrides or {}),
        }
        self._description = self.robot.description()
        self.kinematics = vla_control.RobotModel(self._description)
        self.controller = vla_control.Controller(
            self._description, self.robot.controller_config(**overrides)
        )
        self._plant = Plant(
            self.model._address, self.data._address, self._layout(), self._core_config()
        )
        law: vla_control.Controller | Law = self.controller
        if positions:
            law = position_drives.connect(self.controller, arm, self.dt, gravity=gravity)
        self._loop = Loop(self._plant, law)
        barrier = self.controller.config.barrier
        if barrier.distance_braking > 0.0:
            monitor = collision.make_monitor(
                self.robot, [collision.table()], margin=barrier.distance_margin
            )
            self._loop.set_monitor(monitor, self.controller, collision.PERIOD)
        # The thread works on the model and the data: it must end before they do.
        weakref.finalize(self, self._loop.stop_realtime)
        self._arm_qpos = np.array([self.model.joint(n).qposadr[0] for n in self.robot.joint_names])
        self._arm_dof = np.array([self.model.joint(n).dofadr[0] for n in self.robot.joint_names])
        self._renderers: dict[tuple[int, int], Renderer] = {}
        self.instance: TaskInstance
        self._judge: Judge
        self.reset(task, seed, suite=suite)

    @property
    def dt(self) -> float:
        """Period of the loop, s."""
        return float(self.model.opt.timestep)

    @property
    def time_ns(self) -> int:
        """Time of the controller's clock, ns."""
        return int(self._loop.snapshot().time_ns)

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.instance.task

    @property
    def seed(self) -> int:
        """Seed of the scene."""
        return self.instance.seed

    @property
    def instruction(self) -> str:
        """What the robot is told."""
        return self.instance.instruction

    @property
    def realtime_factor(self) -> float:
        """Simulated seconds per second over about the last second in real time."""
        return float(self._loop.realtime_factor)

    @property
    def overruns(self) -> int:
        """Cycles that began more than a period late since real time was started."""
        return int(self._loop.overruns)

    @property
    def running(self) -> bool:
        """Whether the real-time thread is running."""
        return bool(self._loop.running)

    def reset(
        self,
        task: str | None = None,
        seed: int | None = None,
        *,
        suite: str | None = None,
        keep_clock: bool = False,
    ) -> None:
        """Lay a scene anew and activate the controller.

        Args:
            task: Name of the task; None = the same.
            seed: Seed of the scene; None = the same.
            suite: Name of the suite that it is drawn for; None = the same.
            keep_clock: Let the clock run on instead of starting at zero.
        """
        name = task if task is not None else self.instance.task
        number = seed if seed is not None else self.instance.seed
        drawn_for = suites.get(suite if suite is not None else self.instance.suite)
        instance = drawn_for.draw(name, number, self.robot)
        self.reset_to(instance, keep_clock=keep_clock)

    def reset_to(self, instance: TaskInstance, *, keep_clock: bool = False) -> None:
        """Lay the scene of an instance and activate the controller."""
        if self.running:
            raise RuntimeError("stop real time before the scene is laid anew")
        time_ns = self.time_ns if keep_clock else 0
        self.instance = instance
        scene.lay(self.model, self.data, self.robot, instance.layout)
        self._judge = Judge(
            tasks.get(instance.task), instance.target, instance.reference, instance.absent
        )
        self._loop.reset(time_ns)

    def observe(self) -> SimObservation:
        """Return what a policy may see: images, joints, gripper and the instruction."""
        snapshot = self._loop.snapshot()
        q = snapshot.qpos[self._arm_qpos]
        return SimObservation(
            stamp_ns=int(snapshot.time_ns),
            images={camera: self.render(camera, qpos=snapshot.qpos) for camera in self.cameras},
            q=q,
            dq=snapshot.qvel[self._arm_dof],
            gripper_opening=float(snapshot.gripper_opening),
            pose_tool_in_base=np.asarray(self.kinematics.forward_kinematics(q)),
            instruction=self.instruction,
        )

    def push_chunk(self, chunk: vla_control.Chunk) -> vla_control.RejectReason:
        """Offer a chunk to the controller; returns why it was rejected, NONE = accepted."""
        return self.controller.push_chunk(chunk)

    def advance(self, duration_s: float) -> None:
        """Run exactly ``round(duration_s / dt)`` cycles in lockstep."""
        remaining = round(duration_s / self.dt)
        if remaining < 0:
            raise ValueError(f"the duration {duration_s} must not be negative")
        while remaining > 0:
            into_period = int(self._loop.snapshot().cycles) % _JUDGE_PERIOD
            count = min(remaining, _JUDGE_PERIOD - into_period)
            self._loop.advance(count)
            remaining -= count
            if into_period + count == _JUDGE_PERIOD:
                state = self.scene_state()
                self._judge.update(state)
                self._take_away(state)

    def judge(self) -> Judgement:
        """Return how the episode stands; in real time call it at 10 Hz or more."""
        state = self.scene_state()
        if self.running:
            self._judge.update(state)
        return self._judge.judgement(state)

    def scene_state(self) -> SceneState:
        """Return what judge and expert may know; never an input of a policy."""
        snapshot = self._loop.snapshot()
        qpos, qvel, events = snapshot.qpos, snapshot.qvel, snapshot.events
        layout = self.instance.layout
        objects = scene.observe_objects(self.model, layout, qpos, qvel)
        names = list(scene.OBJECTS)
        contacts = {
            name: int(events.finger_contact[names.index(name)]).bit_count()
            for name in objects.positions
        }
        pose = np.asarray(self.kinematics.forward_kinematics(qpos[self._arm_qpos]))
        return SceneState.of(
            layout,
            objects,
            time=float(snapshot.episode_time),
            finger_contacts=contacts,
            gripper_opening=float(snapshot.gripper_opening),
            tool_position=pose[:3, 3],
            first_touched=names[events.first_touched] if events.first_touched >= 0 else None,
            first_lifted=names[events.first_lifted] if events.first_lifted >= 0 else None,
            peak_force=float(events.peak_force),
        )

    def joints(self) -> tuple[FloatArray, FloatArray]:
        """Return positions (rad) and velocities (rad/s) of the arm's joints."""
        snapshot = self._loop.snapshot()
        return snapshot.qpos[self._arm_qpos], snapshot.qvel[self._arm_dof]

    def observe_pose(self) -> FloatArray:
        """Return the pose of the tool in the base frame by forward kinematics, shape (4, 4)."""
        q = self._loop.snapshot().qpos[self._arm_qpos]
        return np.asarray(self.kinematics.forward_kinematics(q))

    def cycle_snapshot(self) -> Snapshot:
        """Return time, positions and velocities of the newest cycle, copied together."""
        return self._loop.snapshot()

    def qpos(self) -> FloatArray:
        """Return the joint positions of everything in the scene."""
        return np.asarray(self._loop.snapshot().qpos)

    def render(
        self,
        camera: str,
        qpos: FloatArray | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> ImageArray:
        """Draw an image.

        Args:
            camera: Name of the camera, one of ``scene.CAMERAS``, or ``scene.OVERVIEW`` for people.
            qpos: Joint positions of everything in the scene; None = now.
            width: px; None = ``image_size``.
            height: px; None = ``image_size``.

        Returns:
            RGB, shape (height, width, 3).
        """
        size = (width or self.image_size, height or self.image_size)
        if size not in self._renderers:
            self._renderers[size] = Renderer(self.model, *size)
        positions = self.qpos() if qpos is None else qpos
        return self._renderers[size].render(
            camera, positions, np.hstack((self.data.mocap_pos, self.data.mocap_quat))
        )

    def displace(self, name: str, offset: FloatArray) -> None:
        """Move what can be picked up by (x, y, z) in m, as someone who reaches in might.

        Raises:
            ValueError: The object stands fast, or is unknown; the message lists the valid ones.
            RuntimeError: The simulation runs in real time; this is for lockstep only.
        """
        if self.running:
            raise RuntimeError(f"{name} can only be moved in lockstep")
        loose = [n for n, o in scene.OBJECTS.items() if o.prop in ("", *scene.FREE_PROPS)]
        if name not in loose:
            raise ValueError(f"cannot move {name!r}; valid: {', '.join(loose)}")
        joint = self.model.joint(scene.OBJECTS[name].joint)
        address, dof = joint.qposadr[0], joint.dofadr[0]
        self.data.qpos[address : address + 3] += offset
        self.data.qvel[dof : dof + 6] = 0.0
        mujoco.mj_forward(self.model, self.data)
        self._loop.refresh()

    @property
    def drop_time(self) -> float | None:
        """When the object was taken out of the fingers, s since the start; None = it was not."""
        return self._judge.drop_time

    def _take_away(self, state: SceneState) -> None:
        """Take the object out of the fingers, once, if the instance says so."""
        target = self.instance.target
        if not self.instance.drops or self.drop_time is not None:
            return
        rise = state.positions[target][2] - scene.rest_height(target)
        if state.finger_contacts[target] < 2 or rise < _DROP_RISE:
            return
        shift = _clear_shift(state, target, self.seed)
        self.displace(target, np.array([*shift, -rise]))
        self._judge.note_drop(state)

    def snapshot(self) -> SimSnapshot:
        """Return the full state of physics and task; lockstep only."""
        if self.running:
            raise RuntimeError("a snapshot can only be taken in lockstep")
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.zeros(mujoco.mj_stateSize(self.model, kind))
        mujoco.mj_getState(self.model, self.data, physics, kind)
        now = self._loop.snapshot()
        return SimSnapshot(
            instance=self.instance,
            physics=physics,
            memory=self._plant.memory,
            time_ns=int(now.time_ns),
            cycles=int(now.cycles),
            judge=self._judge.copy(),
        )

    def restore(self, snapshot: SimSnapshot) -> None:
        """Return to a snapshot. The controller is activated there, holding where the arm is.

        Raises:
            RuntimeError: The arm moves there, but is told positions, which begins at rest.
        """
        self.reset_to(snapshot.instance)
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(self.model, self.data, snapshot.physics, kind)
        mujoco.mj_forward(self.model, self.data)
        self._loop.reset(snapshot.time_ns)
        self._plant.set_memory(snapshot.memory)
        self._loop.set_clock(snapshot.time_ns, snapshot.cycles)
        self._judge = snapshot.judge.copy()

    def start_realtime(self, speed: float = 1.0) -> None:
        """Let a C++ thread run the loop; ``speed`` = simulated seconds per second."""
        self._loop.start_realtime(speed)

    def stop_realtime(self) -> None:
        """Stop the thread; lockstep is possible again."""
        self._loop.stop_realtime()

    def close(self) -> None:
        """Stop the thread and free the graphics contexts."""
        self._loop.stop_realtime()
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _layout(self) -> _CorePlantLayout:
        layout = _CorePlantLayout()
        robot, model = self.robot, self.model
        layout.arm_qpos = [int(model.joint(n).qposadr[0]) for n in robot.joint_names]
        layout.arm_dof = [int(model.joint(n).dofadr[0]) for n in robot.joint_names]
        layout.arm_actuator = [int(model.actuator(n).id) for n in robot.joint_names]
        layout.finger_qpos = [int(model.joint(n).qposadr[0]) for n in robot.finger_joint_names]
        layout.finger_dof = [int(model.joint(n).dofadr[0]) for n in robot.finger_joint_names]
        layout.finger_actuator = [int(model.actuator(n).id) for n in robot.finger_joint_names]
        layout.finger_body = [int(model.body(n).id) for n in robot.finger_bodies]
        layout.object_body = [int(model.body(o.body).id) for o in scene.OBJECTS.values()]
        return layout

    def _core_config(self) -> _CorePlantConfig:
        config = _CorePlantConfig()
        config.max_opening = self.robot.max_opening
        config.gripper_default_force = self.robot.default_gripper_force
        config.gripper_speed = self.plant_config.gripper_speed
        config.delay_cycles = int(self.plant_config.actuation_delay)
        return config


def _clear_shift(state: SceneState, target: str, seed: int) -> FloatArray:
    """Return how far aside an object is put down, 3 to 7 cm, where nothing else stands, m."""
    rng = np.random.default_rng([seed, 5])
    things = [p[:2] for name, p in state.positions.items() if name != target]
    shifts = []
    for _ in range(100):
        angle, away = rng.uniform(-np.pi, np.pi), rng.uniform(0.03, 0.07)
        shift = away * np.array([np.cos(angle), np.sin(angle)])
        place = state.positions[target][:2] + shift
        room = min((float(np.hypot(*(place - thing))) for thing in things), default=np.inf)
        if state.bowl is not None:
            room = min(room, float(np.hypot(*(place - state.bowl))) - _BOWL_ROOM)
        shifts.append((room, shift))
        if room > tasks.base.CUBE_SPACING:
            break
    return np.asarray(max(shifts, key=lambda pair: pair[0])[1])
