# SPDX-License-Identifier: Apache-2.0
"""What a policy needs and what it returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .actions.spec import NANO_PI0_ACTION, ActionSpec
from .types import CheckpointError


@dataclass(frozen=True)
class PolicySpec:
    """Specification of a policy; part of its checkpoint.

    Attributes:
        cameras: Camera names in the order of the network's input.
        image_size: Height and width of each image, pixels.
        joint_names: Joints in the order of ``q`` and ``dq``.
        state_names: Entries of the encoded state, in order.
        horizon: Steps in a chunk.
        step_dt: Time between steps, s.
        execute_steps: Steps executed between two inferences.
        feature_name: Name of the features that ``act`` returns.
        feature_shape: Flow steps, horizon, width.
        latency_s: Inference latency assumed in lockstep evaluation, s.
        robot: Robot that the policy was trained on.
        action: What the action vectors mean; a checkpoint that does not say has the nano π0's.
        fits_images: Whether images of any size are taken, and fitted into ``image_size`` without
            distortion.
        policy_id: Hash of weights, configuration and statistics; empty before they exist.
    """

    cameras: tuple[str, ...]
    image_size: int
    joint_names: tuple[str, ...]
    state_names: tuple[str, ...]
    horizon: int
    step_dt: float
    execute_steps: int
    feature_name: str
    feature_shape: tuple[int, int, int]
    latency_s: float
    robot: str
    action: ActionSpec = NANO_PI0_ACTION
    fits_images: bool = False
    policy_id: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.execute_steps <= self.horizon:
            raise ValueError(
                f"execute_steps is {self.execute_steps}; valid: 1..horizon = {self.horizon}"
            )
        if not self.step_dt > 0.0:
            raise ValueError(f"step_dt is {self.step_dt} s; valid: > 0")
        if not 0.0 <= self.latency_s < self.horizon * self.step_dt:
            raise ValueError(
                f"latency_s is {self.latency_s} s; valid: from 0 to below the chunk's length, "
                f"{self.horizon * self.step_dt} s"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for JSON, without the hash (which depends on it)."""
        values = asdict(self)
        del values["policy_id"]
        return values

    @staticmethod
    def from_dict(values: dict[str, Any], policy_id: str) -> PolicySpec:
        """Reads ``to_dict``'s result.

        Raises:
            CheckpointError: If an entry is missing or the action space is wrong.
        """
        try:
            return PolicySpec(
                cameras=tuple(values["cameras"]),
                image_size=int(values["image_size"]),
                joint_names=tuple(values["joint_names"]),
                state_names=tuple(values["state_names"]),
                horizon=int(values["horizon"]),
                step_dt=float(values["step_dt"]),
                execute_steps=int(values["execute_steps"]),
                feature_name=str(values["feature_name"]),
                feature_shape=_shape3(values["feature_shape"]),
                latency_s=float(values["latency_s"]),
                robot=str(values["robot"]),
                action=ActionSpec.from_dict(values["action"])
                if "action" in values
                else NANO_PI0_ACTION,
                fits_images=bool(values.get("fits_images", False)),
                policy_id=policy_id,
            )
        except KeyError as error:
            raise CheckpointError(f"the policy specification lacks {error}") from error
        except ValueError as error:
            raise CheckpointError(f"the policy specification: {error}") from error


def _shape3(values: Any) -> tuple[int, int, int]:
    first, second, third = (int(v) for v in values)
    return first, second, third
