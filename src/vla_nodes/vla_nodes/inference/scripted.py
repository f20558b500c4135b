# SPDX-License-Identifier: Apache-2.0
"""Policies without a network, for bring-up and tests: they need no checkpoint.

They take the same observations as any policy, so a missing camera stops them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_policy.types import ActionChunk

NAMES = ("scripted/circle",)
HORIZON = 16
STEP_DT = 0.05  # s
EXECUTE_STEPS = 8
FEATURE_SHAPE = (1, HORIZON, 1)


@dataclass(frozen=True)
class ScriptedSpec:
    """What the nodes read of a ``vla_policy.PolicySpec``; loads no torch."""

    cameras: tuple[str, ...]
    image_size: int
    joint_names: tuple[str, ...]
    policy_id: str
    step_dt: float = STEP_DT
    execute_steps: int = EXECUTE_STEPS
    horizon: int = HORIZON
    latency_s: float = 0.0
    feature_name: str = "none"
    feature_shape: tuple[int, int, int] = FEATURE_SHAPE
    robot: str = ""
    fits_images: bool = False


class CirclePolicy:
    """Traces a small circle in the plane of the table, starting where the tool is."""

    def __init__(
        self,
        joint_names: tuple[str, ...],
        *,
        cameras: tuple[str, ...] = ("scene", "wrist"),
        image_size: int = 96,
        radius: float = 0.03,
        period: float = 4.0,
    ) -> None:
        """Prepares the policy.

        Args:
            joint_names: Arm joints.
            cameras: Cameras it insists on.
            image_size: Their width and height, px.
            radius: m.
            period: s per turn.
        """
        self.has_flow = False
        self.spec = ScriptedSpec(cameras, image_size, joint_names, "scripted/circle")
        self._radius = radius
        self._omega = 2.0 * np.pi / period
        self._start: tuple[int, Any] | None = None
        self._inferences = 0

    def prepare(self, observation: Any) -> None:
        """See ``vla_policy.Policy``."""

    def reset(self, seed: int = 0) -> None:
        """Forgets the circle; it draws nothing, so that the seed does not matter."""
        del seed
        self._start, self._inferences = None, 0

    def encode(self, observation: Any) -> Any:
        """Remembers where the circle starts; a tool far from the circle starts a new one."""
        pose = np.asarray(observation.pose_tool_in_base, dtype=np.float64)
        if self._start is None or np.linalg.norm(pose[:3, 3] - self._start[1][:3, 3]) > (
            4.0 * self._radius
        ):
            self._start = (int(observation.stamp_ns), pose)
        return self._start

    def act(self, context: Any, state: Any, guidance: Any = None) -> ActionChunk:
        """The circle's next poses; the gripper stays open.

        Args:
            context: From :meth:`encode`.
            state: Anything with ``stamp_ns``.
            guidance: Not used.
        """
        start_ns, start = context
        t = (int(state.stamp_ns) - start_ns) * 1e-9 + STEP_DT * np.arange(HORIZON)
        poses = np.repeat(start[None], HORIZON, axis=0)
        poses[:, 0, 3] += self._radius * (np.cos(self._omega * t) - 1.0)
        poses[:, 1, 3] += self._radius * np.sin(self._omega * t)
        self._inferences += 1
        return ActionChunk(
            stamp_ns=int(state.stamp_ns),
            step_dt=STEP_DT,
            commanded=poses,
            gripper_opening=np.full(HORIZON, 0.08),
            features=np.zeros(FEATURE_SHAPE, dtype=np.float32),
            inference_id=self._inferences,
            policy_id=self.spec.policy_id,
        )


def make_scripted(name: str, joint_names: tuple[str, ...]) -> CirclePolicy:
    """The scripted policy called ``name``.

    Raises:
        ValueError: There is no such policy; the message lists those that there are.
    """
    if name not in NAMES:
        raise ValueError(f"no scripted policy {name!r}; there are {', '.join(NAMES)}")
    return CirclePolicy(joint_names)
