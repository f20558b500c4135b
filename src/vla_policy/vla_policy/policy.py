# SPDX-License-Identifier: Apache-2.0
"""The policy interface, and the nano π0 behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .augmentation import normalise_images
from .nano_pi0 import NanoPi0, Prefix
from .sampling import Velocity, euler
from .spec import PolicySpec
from .state_encoding import encode_state, state_names
from .statistics import Statistics
from .tokenizer import InstructionTokenizer
from .types import ActionChunk, ObservationLike, ObservationMismatchError, RobotState

# Changes the flow that is sampled: real-time chunking, composition, rewards.
Guidance = Callable[[Velocity], Velocity]


@dataclass(frozen=True)
class Context:
    """Encoded images and instruction.

    Attributes:
        stamp_ns: Of the observation.
        instruction: That was encoded.
        inference_id: Counts the encoded observations since the last reset.
        prefix: Keys and values for the action expert.
    """

    stamp_ns: int
    instruction: str
    inference_id: int
    prefix: Prefix


class Policy(ABC):
    """From observations to action chunks.

    ``encode`` is slow (vision and language), ``act`` is fast and may be called several times per
    context. One thread at a time.
    """

    spec: PolicySpec

    @abstractmethod
    def reset(self, seed: int = 0) -> None:
        """Restarts the inference count; noise is a function of seed and count alone."""

    @abstractmethod
    def encode(self, observation: ObservationLike) -> Context:
        """Encodes images and instruction.

        Raises:
            ObservationMismatchError: Naming the part that does not fit ``spec``.
        """

    @abstractmethod
    def act(
        self, context: Context, state: RobotState, guidance: Guidance | None = None
    ) -> ActionChunk:
        """A chunk and its features for an encoded context and the robot's state."""


class NanoPi0Policy(Policy):
    """Nano π0 with its tokenizer, statistics and action space.

    Args:
        network: With its weights.
        tokenizer: For instructions.
        statistics: For states and actions.
        spec: What it needs and returns.
        device: Where it computes.
        threads: CPU threads per inference; results depend on it only in the last bits.
    """

    def __init__(
        self,
        network: NanoPi0,
        tokenizer: InstructionTokenizer,
        statistics: Statistics,
        spec: PolicySpec,
        device: str = "cpu",
        threads: int | None = 1,
    ) -> None:
        expected = state_names(spec.joint_names)
        if spec.state_names != expected:
            raise ObservationMismatchError(
                f"the specification's state {spec.state_names} is not {expected}"
            )
        self.spec = spec
        self.statistics = statistics
        self._network = network.to(device).eval()
        self._tokenizer = tokenizer
        self._actions = spec.action
        self._device = torch.device(device)
        self._threads = threads
        self._seed = 0
        self._count = 0

    def reset(self, seed: int = 0) -> None:
        """Restarts the inference count; noise is a function of seed and count alone."""
        self._seed = seed
        self._count = 0

    def encode(self, observation: ObservationLike) -> Context:
        """Encodes images and instruction; see ``Policy.encode``."""
        images = torch.from_numpy(self._images(observation))[None].to(self._device)
        try:
            ids, valid = self._tokenizer.encode(observation.instruction)
        except ValueError as error:
            raise ObservationMismatchError(str(error)) from error
        with self._inference():
            prefix = self._network.encode(
                normalise_images(images),
                torch.from_numpy(ids)[None].to(self._device),
                torch.from_numpy(valid)[None].to(self._device),
            )
        context = Context(
            stamp_ns=int(observation.stamp_ns),
            instruction=observation.instruction,
            inference_id=self._count,
            prefix=prefix,
        )
        self._count += 1
        return context

    def act(
        self, context: Context, state: RobotState, guidance: Guidance | None = None
    ) -> ActionChunk:
        """Samples a chunk; see ``Policy.act``."""
        shape = (self.spec.horizon, self._actions.dim)
        # One stream per inference, so that a chunk depends on nothing that happened before it.
        seeds = np.random.SeedSequence([self._seed, context.inference_id]).generate_state(1)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(int(seeds[0])))
        velocity = self.velocity(context, state)
        if guidance is not None:
            velocity = guidance(velocity)
        with self._inference():
            sampled, features = euler(
                velocity, noise[None].to(self._device), self.spec.feature_shape[0]
            )
        actions = self.statistics.restore_actions(sampled[0].double().cpu().numpy())
        poses, gripper = self._actions.decode(self._actions.observed(state), actions)
        return ActionChunk(
            stamp_ns=context.stamp_ns,
            step_dt=self.spec.step_dt,
            poses_tool_in_base=poses,
            gripper_opening=np.maximum(gripper, 0.0),
            features=features[0].float().cpu().numpy(),
            inference_id=context.inference_id,
            policy_id=self.spec.policy_id,
        )

    def velocity(self, context: Context, state: RobotState) -> Velocity:
        """The flow of one context and state, for samplers.

        Actions are in normalised units, (1, H, 10).
        """
        encoded = self.statistics.normalise_state(self._state(state))
        network_state = torch.from_numpy(encoded).float()[None].to(self._device)

        def flow(actions: Tensor, t: float, /) -> tuple[Tensor, Tensor]:
            time = torch.full((1, 1), t, device=self._device)
            v, features = self._network.velocity(
                context.prefix, network_state, actions[:, None], time
            )
            return v[:, 0], features[:, 0]

        return flow

    def _state(self, state: RobotState) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        joints = len(self.spec.joint_names)
        for name in ("q", "dq"):
            value = getattr(state, name)
            if value.shape != (joints,):
                raise ObservationMismatchError(
                    f"{name} has shape {value.shape}; this policy's robot has {joints} joints"
                )
        encoded = encode_state(state)
        if not np.all(np.isfinite(encoded)):
            names = np.array(self.spec.state_names)[~np.isfinite(encoded)]
            raise ObservationMismatchError(f"the state is not finite: {', '.join(names)}")
        return encoded

    def _images(
        self, observation: ObservationLike
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        size = self.spec.image_size
        images = []
        for camera in self.spec.cameras:
            if camera not in observation.images:
                found = ", ".join(observation.images) or "none"
                raise ObservationMismatchError(f"camera {camera!r} is missing; found: {found}")
            image = observation.images[camera]
            if image.shape != (size, size, 3) or image.dtype != np.uint8:
                raise ObservationMismatchError(
                    f"camera {camera!r} is {image.dtype} {image.shape}; "
                    f"needs uint8 ({size}, {size}, 3) RGB"
                )
            images.append(image)
        return np.stack(images)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.no_grad():
            yield
