# SPDX-License-Identifier: Apache-2.0
"""A π0 in others' layouts as a policy: weights, statistics, tokenizer and ``policy.yaml``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..nano_pi0 import NanoPi0, NanoPi0Config
from ..policy import NetworkPolicy
from ..spec import PolicySpec
from ..state_parts import StatePart
from ..statistics import Statistics
from ..types import Array, CheckpointError, ObservationLike, RobotState
from .contract import FILE, Pi0Contract, read_contract
from .inputs import PaligemmaTokenizer, fit_images
from .layout import CONFIG, Pi0Folder, load_network, read_folder, weight_files
from .lora import CONFIG as ADAPTER_CONFIG
from .lora import WEIGHTS as ADAPTER_WEIGHTS
from .lora import merge_adapter
from .statistics import read_statistics, statistics_files

FEATURES = "pre_velocity"
TOKENIZER = "tokenizer.json"


class Pi0Policy(NetworkPolicy):
    """π0 with PaliGemma's inputs: images of any size, a state of named parts, padded vectors.

    Args:
        network: With its weights.
        tokenizer: For instructions.
        statistics: For states and actions, as wide as the network.
        spec: What it needs and returns.
        parts: Of the state.
        device: Where it computes.
        threads: CPU threads per inference; None leaves torch's setting.
    """

    def __init__(
        self,
        network: NanoPi0,
        tokenizer: PaligemmaTokenizer,
        statistics: Statistics,
        spec: PolicySpec,
        parts: tuple[StatePart, ...],
        device: str = "cpu",
        threads: int | None = 1,
    ) -> None:
        self._parts = parts
        super().__init__(network, tokenizer, statistics, spec, device, threads)

    def _encode_state(self, state: RobotState) -> Array:
        values = np.concatenate([part.encode(state) for part in self._parts])
        return np.pad(values, (0, self.network.config.state_dim - len(values)))

    def _images(self, observations: Sequence[ObservationLike]) -> Tensor:
        # They travel as bytes.
        images = [
            _as_tensor(self._image(observation, camera)).to(self._device)
            for observation in observations
            for camera in self.spec.cameras
        ]
        fitted = fit_images(images, self.spec.image_size)
        return fitted.reshape(len(observations), -1, *fitted.shape[1:]).to(self.network.dtype)


def _as_tensor(image: npt.NDArray[np.uint8]) -> Tensor:
    """A tensor on an image's memory, copied only where torch cannot use that."""
    usable = image.flags.writeable and min(image.strides) >= 0
    return torch.from_numpy(image if usable else image.copy())


def load_pi0(folder: Path, device: str, threads: int | None) -> Pi0Policy:
    """Loads a π0; on a GPU it computes in bfloat16.

    Args:
        folder: With ``policy.yaml``, statistics and PaliGemma's ``tokenizer.json``, and with the
            network's ``config.json`` and weights unless ``policy.yaml`` says where they are.
        device: Where it computes.
        threads: CPU threads per inference; None leaves torch's setting.

    Raises:
        CheckpointError: Naming what is missing or does not fit.
    """
    contract = read_contract(folder)
    network_folder = read_folder(contract.weights, cameras=len(contract.cameras))
    _check(network_folder, contract, folder)
    # A camera that is not there is attended to by nothing: it need not be computed.
    cameras = tuple(name for name in contract.cameras.values() if name is not None)
    shape = replace(network_folder.shape, cameras=len(cameras))
    statistics = read_statistics(
        folder,
        horizon=shape.horizon,
        state=len(contract.state_names),
        action=contract.action.action.dim,
        max_state=shape.state_dim,
        max_action=shape.action_dim,
    )
    tokenizer = PaligemmaTokenizer(folder, shape.text_tokens)
    spec = _spec(contract, cameras, shape, folder)
    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    network = load_network(replace(network_folder, shape=shape), dtype=dtype)
    if contract.adapter is not None:
        merge_adapter(network, contract.adapter)
    return Pi0Policy(network, tokenizer, statistics, spec, contract.state, device, threads)


def _spec(
    contract: Pi0Contract, cameras: tuple[str, ...], shape: NanoPi0Config, folder: Path
) -> PolicySpec:
    try:
        spec = PolicySpec(
            cameras=cameras,
            image_size=shape.image_size,
            joint_names=contract.joint_names,
            state_names=contract.state_names,
            horizon=shape.horizon,
            step_dt=contract.action.step_dt,
            execute_steps=contract.execute_steps,
            feature_name=FEATURES,
            feature_shape=(shape.flow_steps, shape.horizon, shape.expert_width),
            latency_s=contract.latency_s,
            robot=contract.robot,
            action=contract.action.action,
            fits_images=True,
        )
    except ValueError as error:
        raise CheckpointError(f"{folder / FILE}: {error}") from error
    return replace(spec, policy_id=_identity(spec, _files(folder, contract)))


def _check(network: Pi0Folder, contract: Pi0Contract, folder: Path) -> None:
    """Refuses a contract that is for another network."""
    named = tuple(contract.cameras)
    if network.cameras and named != network.cameras:
        raise CheckpointError(
            f"{folder / FILE}: cameras are {', '.join(named)}; the network has, in this order, "
            f"{', '.join(network.cameras)}"
        )
    shape = network.shape
    for what, given, said, most in (
        ("state", len(contract.state_names), network.state_dim, shape.state_dim),
        ("action", contract.action.action.dim, network.action_dim, shape.action_dim),
    ):
        # A base model names the padded length.
        if given > most or (0 < said < most and given != said):
            raise CheckpointError(
                f"{folder / FILE}: the {what} has {given} entries; the network is for "
                f"{said if 0 < said < most else f'up to {most}'}"
            )


def _files(folder: Path, contract: Pi0Contract) -> Iterable[Path]:
    """What decides the policy's behaviour."""
    yield from (folder / FILE, folder / TOKENIZER, *statistics_files(folder))
    yield contract.weights / CONFIG
    yield from weight_files(contract.weights)
    if contract.adapter is not None:
        yield from (contract.adapter / ADAPTER_CONFIG, contract.adapter / ADAPTER_WEIGHTS)


def _identity(spec: PolicySpec, files: Iterable[Path]) -> str:
    digest = hashlib.sha256(json.dumps(spec.to_dict()).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
