# SPDX-License-Identifier: Apache-2.0
"""Random chunks: motions of every mode around an arm's home, most of them good, some spoilt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import vla_control
from vla_control import ChunkMode
from vla_sim.control_bench import curves
from vla_sim.typing import FloatArray

_GOOD = 0.8
_GARBAGE = (np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324, 1e6, -1e3)


class ChunkSource:
    """Draws chunks.

    Args:
        rng: Of all draws.
        description: For the names of frames and joints.
        home: Pose of the tool around which the motions lie, shape (4, 4).
        reach: How far from it they go along each axis, m.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        description: vla_control.RobotDescription,
        home: FloatArray,
        reach: float,
    ) -> None:
        self._rng = rng
        self._description = description
        self._home = home
        self._reach = reach
        self._sequence = 0

    def draw(
        self, state: vla_control.ControllerState, now_ns: int, boot_id: int, grant: int
    ) -> vla_control.Chunk:
        """Return the next chunk: a motion from about the reference in force.

        Args:
            state: Of the controller.
            now_ns: Its clock.
            boot_id: Of the supervisor in charge.
            grant: Its newest grant.
        """
        rng = self._rng
        self._sequence += 1
        steps = int(rng.integers(1, 20))
        step_dt = float(rng.choice([0.02, 0.05, 0.1]))
        chunk = vla_control.Chunk(
            stamp_ns=now_ns - round(1e9 * rng.uniform(0.0, 0.2)),
            step_dt=step_dt,
            base_frame=self._description.base_frame,
            tool_frame=self._description.tool_frame,
            boot_id=boot_id,
            grant=grant,
            sequence=self._sequence,
            **self._motion(state, steps, step_dt),
        )
        if rng.random() < 0.5:
            chunk.gripper_opening = rng.uniform(-0.01, 0.1, steps).tolist()
        if rng.random() > _GOOD:
            self._spoil(chunk)
        return chunk

    def _motion(
        self, state: vla_control.ControllerState, steps: int, step_dt: float
    ) -> dict[str, Any]:
        rng = self._rng
        kind = rng.choice(["pose", "force", "joint", "twist"], p=[0.55, 0.15, 0.15, 0.15])
        speed = rng.choice([0.05, 0.2, 0.5, 1.0, 2.0])
        times = step_dt * np.arange(steps)
        if kind == "twist":
            twist = np.concatenate([rng.standard_normal(3), 2.0 * rng.standard_normal(3)])
            return {"mode": ChunkMode.TWIST, "twists": np.tile(0.5 * speed * twist, (steps, 1))}
        if kind == "joint":
            away = 0.5 * speed * rng.standard_normal(len(state.q))
            values = np.array(state.q) + times[:, None] * away
            names = list(self._description.joint_names)
            return {
                "mode": ChunkMode.JOINT_POSITION,
                "joint_names": names,
                "joint_values": values,
            }
        start = np.array(state.reference_pose_tool_in_base)
        target = self._home[:3, 3] + self._reach * rng.uniform(-1.1, 1.1, 3)
        way = target - start[:3, 3]
        length = np.linalg.norm(way) + 1e-9
        off = start[:3, 3] + rng.choice([0.0, 0.01, 0.05]) * rng.standard_normal(3)
        progress = np.minimum(speed * times, length) / length
        axis = rng.standard_normal(3)
        turn = rng.uniform(-1.0, 1.0) * speed
        # Half of the time the tool turns back towards how it is held at home.
        base = self._home if rng.random() < 0.3 else start
        poses = np.array([curves.turned(base, axis, turn * t) for t in times])
        poses[:, :3, 3] = off + progress[:, None] * way
        poses[:, :3, 3] += rng.choice([0.0, 0.002]) * rng.standard_normal((steps, 3))
        out: dict[str, Any] = {"poses": poses}
        if kind == "force":
            out["wrenches"] = np.tile(10.0 * rng.standard_normal(6), (steps, 1))
        return out

    def _spoil(self, chunk: vla_control.Chunk) -> None:
        rng = self._rng
        garbage = float(rng.choice(_GARBAGE))

        def spoil_a_pose() -> None:
            poses = np.array(chunk.poses)
            if len(poses):
                row, column = rng.integers(3), rng.integers(4)
                poses[rng.integers(len(poses)), row, column] = garbage
                chunk.poses = poses

        def spoil_a_joint() -> None:
            values = list(chunk.joint_values)
            if values:
                values[rng.integers(len(values))] = garbage
            chunk.joint_values = values

        ways: list[Callable[[], object]] = [
            spoil_a_pose,
            spoil_a_joint,
            lambda: setattr(chunk, "step_dt", garbage),
            lambda: setattr(chunk, "stamp_ns", chunk.stamp_ns + int(rng.choice([-1, 1]) * 2e9)),
            lambda: setattr(chunk, "boot_id", chunk.boot_id - 1),
            lambda: setattr(chunk, "grant", chunk.grant - 1),
            lambda: setattr(chunk, "sequence", chunk.sequence - int(rng.integers(1, 5))),
            lambda: setattr(chunk, "base_frame", "elsewhere"),
            lambda: setattr(chunk, "tool_frame", ""),
            lambda: setattr(chunk, "gripper_opening", [garbage] * int(rng.integers(1, 70))),
            lambda: setattr(chunk, "joint_names", ["joint"]),
            lambda: setattr(chunk, "mode", ChunkMode.TWIST),
        ]
        ways[rng.integers(len(ways))]()
