# SPDX-License-Identifier: Apache-2.0
"""What is disturbed in a rollout: the scene's look, the images, or what becomes of a chunk.

Kind and severity are drawn from the seed alone, so they are the same for every task, and each kind
can befall any task. A detector that knew only the task would learn nothing from them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vla_policy.evaluation.rollout import ChunkFilter, ObservationFilter
from vla_policy.types import ActionChunk
from vla_sim.demonstrations import displaced
from vla_sim.simulation import SimObservation
from vla_sim.tasks import TaskInstance

from ..episodes import FailureDetectionError

NONE = "none"
# What each does at severity 1.
REACH = {
    NONE: 0.0,
    "lighting": 0.9,  # share by which the light is dimmed or brightened
    "camera": 0.15,  # m
    "occlusion": 0.8,  # side of the covered square, share of the image's
    "bias": 0.08,  # m
    "jitter": 0.05,  # m, standard deviation per axis of a chunk
}
PERTURBATIONS = tuple(REACH)


@dataclass(frozen=True)
class Perturbation:
    """One perturbation of one episode.

    Attributes:
        kind: One of ``PERTURBATIONS``.
        severity: 0 = as if there were none, 1 = the most.
        seed: Of its direction, place or noise.
    """

    kind: str
    severity: float
    seed: int

    @staticmethod
    def draw(kinds: tuple[str, ...], seed: int) -> Perturbation:
        """The perturbation that belongs to a seed.

        Args:
            kinds: One of these, each as likely as the others.
            seed: Of the scene; the task plays no part.

        Raises:
            FailureDetectionError: If a kind is unknown.
        """
        unknown = sorted(set(kinds) - set(PERTURBATIONS))
        if unknown or not kinds:
            raise FailureDetectionError(
                f"unknown perturbations {unknown}; valid: {', '.join(PERTURBATIONS)}"
            )
        rng = np.random.default_rng([seed, 7])
        kind, severity = kinds[int(rng.integers(len(kinds)))], float(rng.uniform())
        return Perturbation(kind, 0.0 if kind == NONE else severity, seed)

    def scene(self, instance: TaskInstance) -> TaskInstance:
        """The scene as it is laid under the perturbation."""
        look, rng = instance.layout.look, self._rng()
        if self.kind == "lighting":
            factor = 1.0 + self._reach * (1.0 if rng.random() < 0.5 else -1.0)
            look = replace(
                look,
                light_diffuse=look.light_diffuse * factor,
                light_ambient=look.light_ambient * factor,
            )
        elif self.kind == "camera":
            direction = rng.normal(size=3)
            shift = direction * (self._reach / np.linalg.norm(direction))
            look = replace(look, camera_position_offset=look.camera_position_offset + shift)
        return replace(instance, layout=replace(instance.layout, look=look))

    def observation_filter(self) -> ObservationFilter | None:
        """What happens to the images; None = nothing."""
        if self.kind != "occlusion":
            return None
        corner = self._rng().uniform(size=2)
        share = self._reach

        def cover(observation: SimObservation) -> SimObservation:
            images = {}
            for name, image in observation.images.items():
                size = round(share * len(image))
                row, column = (round(float(c) * (len(image) - size)) for c in corner)
                images[name] = image.copy()
                images[name][row : row + size, column : column + size] = 0
            return replace(observation, images=images)

        return cover

    def chunk_filter(self) -> ChunkFilter | None:
        """What happens to chunks on their way to the controller; None = nothing."""
        if self.kind not in ("bias", "jitter"):
            return None
        rng = self._rng()
        angle = rng.uniform(-np.pi, np.pi)
        bias = self._reach * np.array([np.cos(angle), np.sin(angle), 0.0])

        def shift(chunk: ActionChunk) -> ActionChunk:
            poses = chunk.poses_tool_in_base
            if self.kind == "bias":  # a hand-eye calibration that is off
                moved = poses.copy()
                moved[:, :3, 3] += bias
            else:
                offset = self._reach * np.array([*rng.normal(size=2), 0.0])
                moved = displaced(poses, offset, 0.0)
            return replace(chunk, commanded=moved)

        return shift

    @property
    def _reach(self) -> float:
        """How far it goes, in the unit of its kind."""
        return self.severity * REACH[self.kind]

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, 8])
