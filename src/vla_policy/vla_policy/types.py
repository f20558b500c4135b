# SPDX-License-Identifier: Apache-2.0
"""Values that cross the policy's boundary, and its errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class PolicyError(Exception):
    """Base of this package's errors."""


class CheckpointError(PolicyError):
    """A checkpoint lacks something or holds something else than it should."""


class ObservationMismatchError(PolicyError):
    """An observation does not fit the policy's specification."""


class SeedOverlapError(PolicyError):
    """Evaluation seeds were already used to train or select the policy."""


class ObservationLike(Protocol):
    """What a policy reads. ``vla_data.Observation`` and ``vla_sim.SimObservation`` have it."""

    @property
    def stamp_ns(self) -> int:
        """When the observation was taken."""
        ...

    @property
    def images(self) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Camera name to (size, size, 3) uint8 RGB."""
        ...

    @property
    def q(self) -> npt.NDArray[Any]:
        """Joint positions (n,), rad."""
        ...

    @property
    def dq(self) -> npt.NDArray[Any]:
        """Joint velocities (n,), rad/s."""
        ...

    @property
    def gripper_opening(self) -> float:
        """Distance between the pads, m."""
        ...

    @property
    def instruction(self) -> str:
        """What to do, in words."""
        ...

    @property
    def pose_tool_in_base(self) -> npt.NDArray[Any]:
        """(4, 4), forward kinematics of ``q``."""
        ...


@dataclass(frozen=True)
class RobotState:
    """The robot's own state at the time of an observation.

    Attributes:
        stamp_ns: When it was measured.
        q: Joint positions (n,), rad.
        dq: Joint velocities (n,), rad/s.
        gripper_opening: Distance between the pads, m.
        pose_tool_in_base: (4, 4), forward kinematics of ``q``.
    """

    stamp_ns: int
    q: Array
    dq: Array
    gripper_opening: float
    pose_tool_in_base: Array

    @staticmethod
    def of(observation: ObservationLike) -> RobotState:
        """The state part of an observation."""
        return RobotState(
            stamp_ns=int(observation.stamp_ns),
            q=np.asarray(observation.q, dtype=np.float64),
            dq=np.asarray(observation.dq, dtype=np.float64),
            gripper_opening=float(observation.gripper_opening),
            pose_tool_in_base=np.asarray(observation.pose_tool_in_base, dtype=np.float64),
        )


@dataclass(frozen=True)
class ActionChunk:
    """Future references, absolute.

    Attributes:
        stamp_ns: Stamp of the observation; step i is meant for ``stamp_ns + i * step_dt``.
        step_dt: Time between steps, s.
        commanded: (H, 4, 4) tool poses in the base frame, or (H, n) joint positions, rad.
        gripper_opening: (H,) commanded distance between the pads, m.
        features: (flow steps, H, width) hidden states before the output projection.
        inference_id: Counts the inferences since the policy's last reset.
        policy_id: Hash of the weights, configuration and statistics.
        conditioned_steps: Leading steps that were held to the chunk before.
    """

    stamp_ns: int
    step_dt: float
    commanded: Array
    gripper_opening: Array
    features: npt.NDArray[np.float32]
    inference_id: int
    policy_id: str
    conditioned_steps: int = 0

    @property
    def is_joint(self) -> bool:
        """Whether joint positions are commanded, and not poses."""
        return self.commanded.ndim == 2

    @property
    def poses_tool_in_base(self) -> Array:
        """(H, 4, 4) commanded tool poses.

        Raises:
            PolicyError: If joint positions are commanded.
        """
        if self.is_joint:
            raise PolicyError("the chunk commands joint positions, not poses")
        return self.commanded
