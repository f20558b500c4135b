# SPDX-License-Identifier: Apache-2.0
"""π0 as a policy: what both sizes share, and the nano one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .actions.frame import ActionFrame
from .continuation import Continuation
from .heads import CompiledFlow, FlowHead, Head, TracedHead, flow_velocity
from .interface import ActItem, BatchPolicy, Context
from .nano_pi0 import NanoPi0, Prefix
from .samplers import Guidance, Velocity, continue_chunks
from .spec import PolicySpec
from .state_encoding import encode_state, state_names
from .statistics import Statistics
from .tokenizer import InstructionTokenizer
from .training.augmentation import normalise_images
from .types import (
    ActionChunk,
    Array,
    ObservationLike,
    ObservationMismatchError,
    PolicyError,
    RobotState,
)


class Tokenizer(Protocol):
    """Turns an instruction into ids of fixed length."""

    def encode(self, instruction: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Ids (length,) and their validity (length,) of an instruction.

        Raises:
            ValueError: If it cannot be read.
        """
        ...


class NetworkPolicy(BatchPolicy):
    """A π0 of any size with its statistics and action space; subclasses say what it sees.

    Args:
        network: With its weights.
        tokenizer: For instructions.
        statistics: For states and actions, as wide as the network.
        spec: What it needs and returns.
        device: Where it computes.
        threads: CPU threads per inference; results depend on it only in the last bits.
        head: What makes a chunk of the network; the flow by default.
    """

    def __init__(
        self,
        network: NanoPi0,
        tokenizer: Tokenizer,
        statistics: Statistics,
        spec: PolicySpec,
        device: str,
        threads: int | None,
        head: Head | None = None,
    ) -> None:
        self.spec = spec
        self.statistics = statistics
        # Frozen: guidance differentiates with respect to actions alone.
        self.network = network.to(device).eval().requires_grad_(False)
        if torch.device(device).type == "cpu":
            _lay_out_for_few_rows(self.network)
        self._head = head or FlowHead(spec.feature_shape[0])
        self.has_flow = self._head.has_flow
        self._encode: Callable[[Tensor, Tensor, Tensor], Prefix] = self.network.encode
        self._tokenizer = tokenizer
        self._actions = spec.action
        self._device = torch.device(device)
        self._threads = threads
        self._seed = 0
        self._count = 0

    def compile(self, backend: str = "inductor") -> None:
        """Computes with compiled code from now on; the first inference compiles it.

        Args:
            backend: Of ``torch.compile``.

        Raises:
            PolicyError: If the chunks do not come from the flow.
        """
        if not isinstance(self._head, FlowHead):
            raise PolicyError("only a policy whose chunks come from the flow can be compiled")
        head = CompiledFlow(self.network, self._head.steps, backend)
        self._head, self._encode = head, head.encode

    def prepare(self, observation: ObservationLike) -> None:
        """Computes single chunks from graphs from now on, with the same results.

        On a GPU, where ``compile`` does that, and at a second time, it does nothing.
        """
        if self._device.type != "cpu" or isinstance(self._head, CompiledFlow | TracedHead):
            return
        with self._inference():
            head = TracedHead(self.network, self._head, *self.read([observation]))
        self._head, self._encode = head, head.encode

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
        return self.encode_read(items, self.read([observation for observation, _ in items]))

    def encode_read(
        self,
        items: Sequence[tuple[ObservationLike, int]],
        read: tuple[Tensor, Tensor, Tensor],
    ) -> list[Context]:
        """The second half of ``encode_batch``: contexts of what ``read`` has made of them."""
        with self._inference():
            prefix = self._encode(*read)
        return [
            Context(
                stamp_ns=int(observation.stamp_ns),
                instruction=observation.instruction,
                inference_id=count,
                prefix=prefix.row(row),
            )
            for row, (observation, count) in enumerate(items)
        ]

    def read(self, observations: Sequence[ObservationLike]) -> tuple[Tensor, Tensor, Tensor]:
        """What the network reads of observations.

        Returns:
            Images (B, cameras, 3, size, size) in [-1, 1], ids (B, L) of the instructions and their
            validity (B, L), where it computes.

        Raises:
            ObservationMismatchError: Naming the part that does not fit ``spec``.
        """
        images = self._images(observations)
        try:
            texts = [self._tokenizer.encode(one.instruction) for one in observations]
        except ValueError as error:
            raise ObservationMismatchError(str(error)) from error
        ids, valid = (torch.from_numpy(np.stack(part)) for part in zip(*texts, strict=True))
        return images, ids.to(self._device), valid.to(self._device)

    def act(
        self,
        context: Context,
        state: RobotState,
        guidance: Guidance | Continuation | None = None,
    ) -> ActionChunk:
        """Samples a chunk; see ``Policy.act``."""
        if isinstance(guidance, Continuation):
            return self.act_batch([ActItem(context, state, self._seed, guidance)])[0]
        return self._sample([ActItem(context, state, self._seed)], guidance)[0]

    def act_batch(self, items: Sequence[ActItem]) -> list[ActionChunk]:
        """Samples several chunks at once; see ``BatchPolicy``."""
        # Apart, because a guided chunk costs a vector-Jacobian product.
        guided = [item for item in items if item.continuation is not None]
        plain = [item for item in items if item.continuation is None]
        chunks = iter(self._sample(plain, None) if plain else [])
        bent = iter(self._sample(guided, self._continue(guided)) if guided else [])
        return [next(chunks if item.continuation is None else bent) for item in items]

    def _continue(self, items: Sequence[ActItem]) -> Guidance:
        frames = [self.action_frame(item.state) for item in items]
        try:
            return continue_chunks(frames, [c for i in items if (c := i.continuation) is not None])
        except (IndexError, ValueError) as error:
            raise PolicyError(f"the chunk to go on from does not fit: {error}") from error

    def _sample(self, items: Sequence[ActItem], guidance: Guidance | None) -> list[ActionChunk]:
        noise = torch.stack([self._noise(item.seed, item.context) for item in items])
        with self._inference():
            sampled, features = self._head.sample(
                self.network,
                Prefix.stack([item.context.prefix for item in items]),
                torch.cat([self.network_state(item.state) for item in items]),
                noise.to(self._device),
                guidance,
            )
        return [
            self._chunk(item.context, item.state, sampled[row, None], features[row])
            for row, item in enumerate(items)
        ]

    def _noise(self, seed: int, context: Context) -> Tensor:
        # One stream per inference, so that a chunk depends on nothing that happened before it.
        seeds = np.random.SeedSequence([seed, context.inference_id]).generate_state(1)
        generator = torch.Generator().manual_seed(int(seeds[0]))
        shape = self.network.config
        return torch.randn((shape.horizon, shape.action_dim), generator=generator)

    def _chunk(
        self, context: Context, state: RobotState, sampled: Tensor, features: Tensor
    ) -> ActionChunk:
        try:
            commanded, gripper = self.action_frame(state).decode(sampled)
        except ValueError as error:
            raise PolicyError(f"the chunk cannot be used: {error}") from error
        return ActionChunk(
            stamp_ns=context.stamp_ns,
            step_dt=self.spec.step_dt,
            commanded=commanded,
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

    def _state(self, state: RobotState) -> Array:
        joints = len(self.spec.joint_names)
        for name in ("q", "dq"):
            value = getattr(state, name)
            if value.shape != (joints,):
                raise ObservationMismatchError(
                    f"{name} has shape {value.shape}; this policy's robot has {joints} joints"
                )
        encoded = self._encode_state(state)
        if not np.all(np.isfinite(encoded)):
            names = [
                name
                for name, value in zip(self.spec.state_names, encoded, strict=False)
                if not np.isfinite(value)
            ]
            raise ObservationMismatchError(f"the state is not finite: {', '.join(names)}")
        return encoded

    @abstractmethod
    def _encode_state(self, state: RobotState) -> Array:
        """The network's state (S,) of a robot's."""

    @abstractmethod
    def _images(self, observations: Sequence[ObservationLike]) -> Tensor:
        """(B, cameras, 3, size, size) in [-1, 1]."""

    def _image(self, observation: ObservationLike, camera: str) -> npt.NDArray[np.uint8]:
        """A camera's image (H, W, 3), checked."""
        if camera not in observation.images:
            found = ", ".join(observation.images) or "none"
            raise ObservationMismatchError(f"camera {camera!r} is missing; found: {found}")
        image = observation.images[camera]
        size = self.spec.image_size
        fits = image.shape == (size, size, 3)
        if self.spec.fits_images:
            fits = image.ndim == 3 and image.shape[2] == 3 and image.size > 0
        if not fits or image.dtype != np.uint8:
            needed = "(H, W, 3)" if self.spec.fits_images else f"({size}, {size}, 3)"
            raise ObservationMismatchError(
                f"camera {camera!r} is {image.dtype} {image.shape}; needs uint8 {needed} RGB"
            )
        return image

    @contextmanager
    def _inference(self) -> Iterator[None]:
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.no_grad():
            yield


def _lay_out_for_few_rows(network: nn.Module) -> None:
    """Stores the weights of linear layers by column, their values and shapes unchanged.

    The CPU's matrix product copies a weight into blocks at each call. With the seventeen rows of a
    chunk that is a third of its time by row and half of that by column (a whole chunk 12 % faster).
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = module.weight.data.t().contiguous().t()


class NanoPi0Policy(NetworkPolicy):
    """Nano π0: its own tokenizer and encoding of the state, images of one size.

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
        super().__init__(network, tokenizer, statistics, spec, device, threads, head)
        self.tokenizer = tokenizer

    def _encode_state(self, state: RobotState) -> Array:
        return encode_state(state)

    def _images(self, observations: Sequence[ObservationLike]) -> Tensor:
        images = np.stack(
            [
                np.stack([self._image(observation, camera) for camera in self.spec.cameras])
                for observation in observations
            ]
        )
        return normalise_images(torch.from_numpy(images).to(self._device))
