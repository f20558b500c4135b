# SPDX-License-Identifier: Apache-2.0
"""What a calibration holds for: any other policy, sampler, schedule or camera makes it void."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from vla_policy.spec import PolicySpec

from .episodes import FailureDetectionError


@dataclass(frozen=True)
class Binding:
    """Everything that the distribution of scores depends on besides the world.

    Attributes:
        policy_id: Hash of the checkpoint.
        feature_name: What the features are.
        feature_shape: Flow steps, horizon, width.
        sampler: How the flow is integrated.
        schedule: When the next inference starts, and what of a chunk is executed.
        execute_steps: Steps from one observation to the next.
        step_dt: Between the steps of a chunk, s.
        latency_s: From an observation to its chunk, s.
        cameras: Names, in the policy's order.
        image_size: Side of the images, px.
        robot: Name of the robot.
    """

    policy_id: str
    feature_name: str
    feature_shape: tuple[int, int, int]
    sampler: str
    schedule: str
    execute_steps: int
    step_dt: float
    latency_s: float
    cameras: tuple[str, ...]
    image_size: int
    robot: str

    @staticmethod
    def of(
        spec: PolicySpec,
        *,
        sampler: str = "euler",
        schedule: str = "asynchronous",
        latency_s: float | None = None,
    ) -> Binding:
        """The binding of a policy.

        Args:
            spec: Of the policy.
            sampler: How it samples.
            schedule: Under which it runs.
            latency_s: Under which it runs, s; None for the checkpoint's own.
        """
        return Binding(
            policy_id=spec.policy_id,
            feature_name=spec.feature_name,
            feature_shape=spec.feature_shape,
            sampler=sampler,
            schedule=schedule,
            execute_steps=spec.execute_steps,
            step_dt=spec.step_dt,
            latency_s=spec.latency_s if latency_s is None else latency_s,
            cameras=spec.cameras,
            image_size=spec.image_size,
            robot=spec.robot,
        )

    @property
    def calibration_id(self) -> str:
        """Hash of all of it, 16 hexadecimal digits."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def mismatches(self, running: Binding) -> list[str]:
        """In words, where what runs is not what was calibrated; empty = nowhere."""
        return [
            f"{field.name} is {getattr(running, field.name)}, calibrated was "
            f"{getattr(self, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(running, field.name)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Binding:
        """Reads ``to_dict``'s result.

        Raises:
            FailureDetectionError: Naming what is missing or unexpected.
        """
        names = {field.name for field in fields(Binding)}
        wrong = sorted(names ^ values.keys())
        if wrong:
            raise FailureDetectionError(f"a binding with other entries than it has: {wrong}")
        tuples = {name: tuple(values[name]) for name in ("feature_shape", "cameras")}
        return Binding(**{**values, **tuples})
