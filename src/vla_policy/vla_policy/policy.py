# SPDX-License-Identifier: Apache-2.0
"""The policy interface, and the nano π0 behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .action_frame import ActionFrame
from .augmentation import normalise_images
from .heads import FlowHead, Head, flow_velocity
from .nano_pi0 import NanoPi0, Prefix
from .samplers import Guidance, Velocity
from .spec import PolicySpec
from .state_encoding import encode_state, state_names
from .statistics import Statistics
from .tokenizer import InstructionTokenizer
from .types import (
    ActionChunk,
    ObservationLike,
    ObservationMismatchError,
    PolicyError,
    RobotState,
)


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

    Attributes:
        spec: What it needs and returns.
        has_flow: Whether ``act`` takes a guidance.
    """

    spec: PolicySpec
    has_flow: bool = False

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
        """A chunk and its features for an encoded context and the robot's state.

        Raises:
            ObservationMismatchError: If the state does not fit ``spec``.
            PolicyError: If the chunk cannot be used, or there is no flow that could be guided.
        """

    def action_frame(self, state: RobotState) -> ActionFrame:
        """What normalised actions mean for a state; of policies with a flow."""
        raise PolicyError(f"{type(self).__name__} has no flow")


class NanoPi0Policy(Policy):
    """Nano π0 with its tokenizer, statistics and action space.

    Args:
        network: With its weights.
        tokenizer: For instructions.
        statistics: For states and actions.
        spec: What it needs and returns.
        device: Where it computes.
        threads: CPU threads per inference; results depend on it only in the last bits.
        head: What makes a chunk of the network; the flow by default.
    """

    def __init__(
        self,
        network: NanoPi0,
        tokenizer: InstructionTokenizer,
        statistics: Statistics,
        spec: PolicySpec,
        device: str = "cpu",
        threads: int | None = 1,
        head: Head | None = None,
    ) -> None:
        expected = state_names(spec.joint_names)
        if spec.state_names != expected:
            raise ObservationMismatchError(
                f"the specification's state {spec.state_names} is not {expected}"
            )
        self.spec = spec
        self.statistics = statistics
        # Frozen: guidance differentiates with respect to actions alone.
        self._network = network.to(device).eval().requires_grad_(False)
        self._head = head or FlowHead(spec.feature_shape[0])
        self.has_flow = self._head.has_flow
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
        with self._inference():
            sampled, features = self._head.sample(
                self._network,
                context.prefix,
                self._network_state(state),
                noise[None].to(self._device),
                guidance,
            )
        try:
            poses, gripper = self.action_frame(state).decode(sampled)
        except ValueError as error:
            raise PolicyError(f"the chunk cannot be used: {error}") from error
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
        """The flow of one context and state, on normalised actions (1, H, A)."""
        return flow_velocity(self._network, context.prefix, self._network_state(state))

    def action_frame(self, state: RobotState) -> ActionFrame:
        """What normalised actions mean for a state."""
        return ActionFrame(
            self._actions, self.statistics, self._actions.observed(state), self._device
        )

    def _network_state(self, state: RobotState) -> Tensor:
        encoded = self.statistics.normalise_state(self._state(state))
        return torch.from_numpy(encoded).float()[None].to(self._device)

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
