# SPDX-License-Identifier: Apache-2.0
"""Gymnasium environments around a simulation in lockstep, with an explicit inference latency."""

from __future__ import annotations

import string
from typing import Any, Literal

import gymnasium
import numpy as np
from scipy.spatial.transform import Rotation

import vla_control
from vla_sim import scene, seeds, tasks
from vla_sim.experts import EXECUTE_STEPS, HORIZON, STEP_DT
from vla_sim.simulation import PlantConfig, Simulation
from vla_sim.typing import FloatArray, ImageArray

Control = Literal["chunk", "pose"]

_POSE_PERIOD = 0.1
_POSE_SPEED = 0.3
_POSE_TURN_SPEED = 1.5
_REACH = 1.0


class ManipulationEnv(gymnasium.Env[dict[str, Any], FloatArray]):
    """A robot at one task.

    Observations hold what a policy may see and nothing else: the camera images, ``q``, ``dq``,
    ``gripper_opening`` and ``pose_tool_in_base`` (position and quaternion xyzw), and the
    ``instruction``.

    An action row is a commanded tool pose in the base frame (position in m, quaternion xyzw) and an
    opening of the gripper in m. With ``control="chunk"`` an action has 16 rows, 50 ms apart, of
    which 8 are executed until the next action; with ``control="pose"`` it is one row, approached
    steadily for 0.1 s. Quaternions are normalised here; whatever the controller rejects is named in
    ``info["reject_reason"]``, and the arm then goes on with what it was doing.

    The reward is 1 in the step in which the task is fulfilled, which ends the episode, else 0.

    Args:
        task: Name of the task.
        robot: Name of the robot.
        control: What an action is.
        latency_s: Simulated time from the observation to the arrival of its action, s.
        time_limit_s: Simulated time after which an episode is truncated, s.
        purpose: Whose seeds scenes are drawn from.
        image_size: Side of the images, px.
        plant: Constants of the hardware.
        render_mode: ``"rgb_array"`` or None.
        suite: Name of the suite that scenes are drawn for.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (gymnasium's own)

    def __init__(
        self,
        task: str = "pick",
        robot: str = "panda",
        control: Control = "chunk",
        *,
        latency_s: float = 0.1,
        time_limit_s: float = 15.0,
        purpose: str = "rollouts",
        image_size: int = 96,
        plant: PlantConfig | None = None,
        render_mode: str | None = None,
        suite: str = "basic",
    ) -> None:
        if control not in ("chunk", "pose"):
            raise ValueError(f"unknown control {control!r}; valid: chunk, pose")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"unknown render_mode {render_mode!r}; valid: rgb_array")
        self._period = EXECUTE_STEPS * STEP_DT if control == "chunk" else _POSE_PERIOD
        if not 0.0 <= latency_s <= self._period:
            raise ValueError(f"latency_s {latency_s} must be in 0..{self._period}")
        self.render_mode = render_mode
        self._control = control
        self._latency = latency_s
        self._time_limit = time_limit_s
        self._seeds = seeds.range_of(purpose)
        self.sim = Simulation(
            robot, task, self._seeds[0], image_size=image_size, plant=plant, suite=suite
        )
        n = len(self.sim.robot.joint_names)
        row_low = np.array([-_REACH] * 3 + [-1.0] * 4 + [0.0])
        row_high = np.array([_REACH] * 3 + [1.0] * 4 + [self.sim.robot.max_opening])
        rows = (HORIZON, 1) if control == "chunk" else (1,)
        self.action_space = gymnasium.spaces.Box(
            np.tile(row_low, rows), np.tile(row_high, rows), dtype=np.float64
        )
        images = {
            camera: gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
            for camera in scene.CAMERAS
        }
        unbounded = {"q": n, "dq": n, "gripper_opening": 1, "pose_tool_in_base": 7}
        self.observation_space = gymnasium.spaces.Dict(
            {
                **images,
                **{
                    name: gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)
                    for name, size in unbounded.items()
                },
                "instruction": gymnasium.spaces.Text(100, charset=string.ascii_lowercase + " "),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Lay a new scene.

        Args:
            seed: Of the environment's own generator, which draws the seeds of scenes.
            options: ``scene_seed`` lays that scene; it must be of the environment's purpose.

        Raises:
            SeedError: ``scene_seed`` is outside the range of the purpose.
        """
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(self._seeds.start, self._seeds.stop))
        scene_seed = int((options or {}).get("scene_seed", drawn))
        if scene_seed not in self._seeds:
            raise seeds.SeedError(f"scene_seed {scene_seed} is not in {self._seeds}")
        self.sim.reset(seed=scene_seed)
        return self._observation(), self._info()

    def step(self, action: FloatArray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Execute an action: it arrives after the latency and runs until the period is over."""
        rows = np.asarray(action, dtype=np.float64)
        if rows.shape != self.action_space.shape:
            raise ValueError(f"the action has shape {rows.shape}, not {self.action_space.shape}")
        stamp_ns = self.sim.time_ns
        self.sim.advance(self._latency)
        chunk = self._pose_chunk(rows) if self._control == "pose" else self._chunk(rows, stamp_ns)
        reason = self.sim.push_chunk(chunk)
        self.sim.advance(self._period - self._latency)
        success = self.sim.judge().success
        late = self.sim.scene_state().time >= self._time_limit
        info = {**self._info(), "reject_reason": reason.name}
        return self._observation(), float(success), success, late and not success, info

    def render(self) -> ImageArray | None:
        """Return an image of the scene, 480 px, if the render mode asks for it."""
        if self.render_mode is None:
            return None
        return self.sim.render("scene", width=480, height=480)

    def close(self) -> None:
        """Free the graphics contexts."""
        self.sim.close()

    def _observation(self) -> dict[str, Any]:
        seen = self.sim.observe()
        pose = seen.pose_tool_in_base
        quat_xyzw = Rotation.from_matrix(pose[:3, :3]).as_quat(canonical=True)
        return {
            **seen.images,
            "q": seen.q,
            "dq": seen.dq,
            "gripper_opening": np.array([seen.gripper_opening]),
            "pose_tool_in_base": np.concatenate((pose[:3, 3], quat_xyzw)),
            "instruction": seen.instruction,
        }

    def _info(self) -> dict[str, Any]:
        judgement = self.sim.judge()
        return {
            "seed": self.sim.seed,
            "success": judgement.success,
            "lifted_object": judgement.lifted_object,
            "touched_object": judgement.touched_object,
            "named_object": judgement.named_object,
            "details": judgement.details,
        }

    def _new_chunk(
        self, stamp_ns: int, poses: FloatArray, openings: FloatArray
    ) -> vla_control.Chunk:
        return vla_control.Chunk(
            stamp_ns=stamp_ns,
            step_dt=STEP_DT,
            base_frame=self.sim.robot.base_frame,
            tool_frame=self.sim.robot.tool_frame,
            poses=poses,
            gripper_opening=openings,
        )

    def _chunk(self, rows: FloatArray, stamp_ns: int) -> vla_control.Chunk:
        return self._new_chunk(stamp_ns, np.stack([_pose(row) for row in rows]), rows[:, 7])

    def _pose_chunk(self, row: FloatArray) -> vla_control.Chunk:
        """Return a steady motion from the reference in force to the pose."""
        start = np.asarray(self.sim.controller.state().reference_pose_tool_in_base)
        goal = _pose(row)
        turn = Rotation.from_matrix(goal[:3, :3] @ start[:3, :3].T).as_rotvec()
        duration = max(
            float(np.linalg.norm(goal[:3, 3] - start[:3, 3])) / _POSE_SPEED,
            float(np.linalg.norm(turn)) / _POSE_TURN_SPEED,
        )
        steps = min(HORIZON, max(2, int(np.ceil(duration / STEP_DT)) + 1))
        poses = np.tile(start, (steps, 1, 1))
        for index in range(steps):
            share = min(1.0, index * STEP_DT / max(duration, STEP_DT))
            poses[index, :3, 3] += share * (goal[:3, 3] - start[:3, 3])
            poses[index, :3, :3] = Rotation.from_rotvec(share * turn).as_matrix() @ start[:3, :3]
        return self._new_chunk(self.sim.time_ns, poses, np.full(steps, row[7]))


def _pose(row: FloatArray) -> FloatArray:
    """Return the 4x4 pose of an action row; a zero quaternion gives no rotation at all."""
    pose = np.eye(4)
    pose[:3, 3] = row[:3]
    norm = float(np.linalg.norm(row[3:7]))
    pose[:3, :3] = Rotation.from_quat(row[3:7]).as_matrix() if norm > 1e-9 else np.zeros((3, 3))
    return pose


def make_env(
    task: str, robot: str = "panda", control: Control = "chunk", **settings: Any
) -> ManipulationEnv:
    """Return an environment; further settings as for :class:`ManipulationEnv`.

    Raises:
        TaskError, RobotError, ValueError: A name is unknown; the message lists the valid ones.
    """
    tasks.get(task)
    return ManipulationEnv(task, robot, control, **settings)
