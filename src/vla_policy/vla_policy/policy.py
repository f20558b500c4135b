# SPDX-License-Identifier: Apache-2.0
"""The nano π0 as a policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from .action_frame import ActionFrame
from .augmentation import normalise_images
from .heads import FlowHead, Head, flow_velocity
from .interface import BatchPolicy, Context
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


class NanoPi0Policy(BatchPolicy):
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
        self.network = network.to(device).eval().requires_grad_(False)
        self._head = head or FlowHead(spec.feature_shape[0])
        self.has_flow = self._head.has_flow
        self.tokenizer = tokenizer
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
        (context,) = self.encode_batch([(observation, self._count)])
        self._count += 1
        return context

    def encode_batch(self, items: Sequence[tuple[ObservationLike, int]]) -> list[Context]:
        """Encodes several observations at once; see ``BatchPolicy``."""
        images = np.stack([self._images(observation) for observation, _ in items])
        try:
            texts = [self.tokenizer.encode(observation.instruction) for observation, _ in items]
        except ValueError as error:
            raise ObservationMismatchError(str(error)) from error
        ids, valid = (torch.from_numpy(np.stack(part)) for part in zip(*texts, strict=True))
        with self._inference():
            prefix = self.network.encode(
                normalise_images(torch.from_numpy(images).to(self._device)),
                ids.to(self._device),
                valid.to(self._device),
            )
        return [
            Context(
                stamp_ns=int(observation.stamp_ns),
                instruction=observation.instruction,
                inference_id=count,
                prefix=prefix.row(row),
            )
            for row, (observation, count) in enumerate(items)
        ]

    def act(
        self, context: Context, state: RobotState, guidance: Guidance | None = None
    ) -> ActionChunk:
        """Samples a chunk; see ``Policy.act``."""
        return self._sample([(context, state, self._seed)], guidance)[0]

    def act_batch(self, items: Sequence[tuple[Context, RobotState, int]]) -> list[ActionChunk]:
        """Samples several chunks at once; see ``BatchPolicy``."""
        return self._sample(items, None)

    def _sample(
        self, items: Sequence[tuple[Context, RobotState, int]], guidance: Guidance | None
    ) -> list[ActionChunk]:
        noise = torch.stack([self._noise(seed, context) for context, _, seed in items])
        with self._inference():
            sampled, features = self._head.sample(
                self.network,
                Prefix.stack([context.prefix for context, _, _ in items]),
                torch.cat([self.network_state(state) for _, state, _ in items]),
                noise.to(self._device),
                guidance,
            )
        return [
            self._chunk(context, state, sampled[row, None], features[row])
            for row, (context, state, _) in enumerate(items)
        ]

    def _noise(self, seed: int, context: Context) -> Tensor:
        # One stream per inference, so that a chunk depends on nothing that happened before it.
        seeds = np.random.SeedSequence([seed, context.inference_id]).generate_state(1)
        generator = torch.Generator().manual_seed(int(seeds[0]))
        return torch.randn((self.spec.horizon, self._actions.dim), generator=generator)

    def _chunk(
        self, context: Context, state: RobotState, sampled: Tensor, features: Tensor
    ) -> ActionChunk:
        try:
            poses, gripper = self.action_frame(state).decode(sampled)
        except ValueError as error:
            raise PolicyError(f"the chunk cannot be used: {error}") from error
        return ActionChunk(
            stamp_ns=context.stamp_ns,
            step_dt=self.spec.step_dt,
            poses_tool_in_base=poses,
            gripper_opening=np.maximum(gripper, 0.0),
            features=features.float().cpu().numpy(),
            inference_id=context.inference_id,
            policy_id=self.spec.policy_id,
        )

    def velocity(self, context: Context, state: RobotState) -> Velocity:
        """The flow of one context and state, on normalised actions (1, H, A)."""
        return flow_velocity(self.network, context.prefix, self.network_state(state))

    def action_frame(self, state: RobotState) -> ActionFrame:
        """What normalised actions mean for a state."""
        return ActionFrame(
            self._actions, self.statistics, self._actions.observed(state), self._device
        )

    def network_state(self, state: RobotState) -> Tensor:
        """A state as the network reads it, (1, S).

        Raises:
            ObservationMismatchError: If it does not fit the specification or is not finite.
        """
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
