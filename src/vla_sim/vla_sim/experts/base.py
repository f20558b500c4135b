# SPDX-License-Identifier: Apache-2.0
"""An expert: rolls a smooth motion forward through the goals of its task into a chunk."""

from __future__ import annotations

import numpy as np

import vla_control
from vla_sim import scene, tasks
from vla_sim.experts.skills import SKILLS, WAITING
from vla_sim.experts.world import World
from vla_sim.robots import RobotSpec
from vla_sim.simulation import Simulation
from vla_sim.tasks import SceneState, TaskInstance
from vla_sim.typing import FloatArray

HORIZON = 16
STEP_DT = 0.05
EXECUTE_STEPS = 8
_SUBSTEPS = 2
# Beyond this the arm is not where it was told to be, and planning begins where it is.
_MAX_LAG = 0.035
_MAX_ANGULAR_LAG = 0.35
# A disturbed reference may move faster than a chunk is allowed to begin.
_MAX_SPEED = 0.6
_MAX_TURN_SPEED = 2.0
# A gripped object so near to where it is held has not slipped, m.
_HELD = 0.03
_NOWHERE = np.array([9.0, 9.0, 0.0])


class Expert:
    """Makes chunks from the state of the scene; it remembers nothing between calls.

    Args:
        robot: The robot, for the frames of the chunks.
    """

    def __init__(self, robot: RobotSpec) -> None:
        self._robot = robot

    def plan(self, sim: Simulation) -> tuple[FloatArray, FloatArray]:
        """Return commanded tool poses in base, shape (16, 4, 4), and gripper openings (16,) in m.

        Step 0 is now.
        """
        world = observe_world(sim)
        goals = WAITING if sim.instance.absent else SKILLS[sim.task].goals
        poses = np.tile(np.eye(4), (HORIZON, 1, 1))
        openings = np.zeros(HORIZON)
        for step in range(HORIZON):
            poses[step, :3, :3] = world.rotation
            poses[step, :3, 3] = world.position
            openings[step] = goals.goal(world).opening
            for _ in range(_SUBSTEPS):
                world.step(goals.goal(world), STEP_DT / _SUBSTEPS)
        return poses, openings

    def act(self, sim: Simulation) -> vla_control.Chunk:
        """Return the chunk for the state as it is, stamped now."""
        return self.chunk(*self.plan(sim), stamp_ns=sim.time_ns)

    def chunk(self, poses: FloatArray, openings: FloatArray, *, stamp_ns: int) -> vla_control.Chunk:
        """Return planned poses and openings as a chunk for the controller."""
        return vla_control.Chunk(
            stamp_ns=stamp_ns,
            step_dt=STEP_DT,
            base_frame=self._robot.base_frame,
            tool_frame=self._robot.tool_frame,
            poses=poses,
            gripper_opening=openings,
        )


def observe_world(sim: Simulation) -> World:
    """Return tool and named object as they are, the tool as it is commanded unless it lags far."""
    state = sim.scene_state()
    target = sim.instance.target
    measured = sim.observe_pose()
    controller = sim.controller.state()
    reference = np.asarray(controller.reference_pose_tool_in_base)
    twist = np.asarray(controller.reference_twist_tool_in_base)
    lag = np.linalg.norm(reference[:3, 3] - measured[:3, 3])
    cosine = 0.5 * (np.trace(reference[:3, :3].T @ measured[:3, :3]) - 1.0)
    if lag > _MAX_LAG or cosine < np.cos(_MAX_ANGULAR_LAG):
        reference, twist = measured, np.zeros(6)
    world = world_of(state, sim.instance, reference, opening=state.gripper_opening)
    world.compliant = controller.compliant
    world.velocity = _limited(twist[:3], _MAX_SPEED)
    world.angular_velocity = _limited(twist[3:], _MAX_TURN_SPEED)
    grip = world.grip * state.axes.get(target, np.array([0.0, 0.0, 1.0]))
    near = np.linalg.norm(world.cube + grip - measured[:3, 3]) < _HELD
    world.held = bool(near and state.finger_contacts.get(target) == 2)
    if world.held and not world.hinged:
        world.cube = world.cube + reference[:3, 3] - measured[:3, 3]
    return world


def world_of(
    state: SceneState, instance: TaskInstance, pose_tool: FloatArray, *, opening: float
) -> World:
    """Return the picture of a scene with a tool that stands still and holds nothing.

    Args:
        state: The scene.
        instance: What is to be done in it.
        pose_tool: Of the tool in the base frame, shape (4, 4).
        opening: Of the gripper, m.
    """
    skill, target = SKILLS[instance.task], instance.target
    aim = None
    if not instance.absent:
        aim = tasks.get(instance.task).aim(state, target, instance.reference)
    return World(
        position=pose_tool[:3, 3].copy(),
        rotation=pose_tool[:3, :3].copy(),
        velocity=np.zeros(3),
        angular_velocity=np.zeros(3),
        opening=opening,
        cube=state.positions.get(target, _NOWHERE).copy(),
        cube_yaw=state.yaws.get(target, 0.0),
        held=False,
        squeezed=0.0,
        aim=_NOWHERE if aim is None else aim,
        travel=state.travels.get(target, 0.0),
        react=skill.react,
        width=skill.width,
        rest=scene.rest_height(target),
        grip=skill.grip,
        hinged=skill.hinged,
        drift=state.speeds.get(target, 0.0) if skill.drifts else 0.0,
    )


def _limited(vector: FloatArray, limit: float) -> FloatArray:
    """Return the vector, shortened to the limit if it is longer."""
    return np.asarray(vector * min(1.0, limit / max(float(np.linalg.norm(vector)), 1e-9)))
