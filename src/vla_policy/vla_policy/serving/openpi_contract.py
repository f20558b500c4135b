# SPDX-License-Identifier: Apache-2.0
"""What another openpi server wants to see and what it returns, from one YAML file.

openpi's protocol tells neither: names, sizes and order in a request are the checkpoint's own, and
so is the meaning of the array in the answer. Examples are in ``openpi_servers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from ..actions.contracts import load_action_contract
from ..instruction import check_instruction
from ..spec import PolicySpec
from ..state_parts import StatePart, make_state_parts
from ..types import Array, CheckpointError, ObservationLike, ObservationMismatchError, RobotState

# Entries of the YAML file, all of which must be there; see docs/serving.md.
_ENTRIES = (
    "server",
    "robot",
    "joint_names",
    "image_size",
    "images",
    "state",
    "prompt",
    "action",
    "max_opening",
    "horizon",
    "execute_steps",
    "latency_s",
)
_MAX_IMAGE_SIZE = 4096  # px


@dataclass(frozen=True)
class OpenpiContract:
    """How an openpi server is asked, and what its answer means.

    Attributes:
        server: ``ws://host:port`` or ``wss://host:port``.
        images: Name in a request to the camera whose image goes there.
        state: Name in a request to the parts of the state that go there, in order.
        prompt: Name in a request of the instruction.
        spec: The policy behind the server, as this suite's nodes and schedules see it.
    """

    server: str
    images: Mapping[str, str]
    state: Mapping[str, tuple[StatePart, ...]]
    prompt: str
    spec: PolicySpec

    @property
    def names(self) -> tuple[str, ...]:
        """Names in a request."""
        return (*self.images, *self.state, self.prompt)

    @property
    def identity(self) -> str:
        """All that it says but the address, as text."""
        state = {name: [part.names for part in parts] for name, parts in self.state.items()}
        return repr((self.images, state, self.prompt, self.spec))

    def seen(self, observation: ObservationLike) -> dict[str, Any]:
        """The part of a request that is seen and told: images and instruction.

        Raises:
            ObservationMismatchError: Naming the part that is missing or of another kind.
        """
        images = {}
        for name, camera in self.images.items():
            if camera not in observation.images:
                found = ", ".join(observation.images) or "none"
                raise ObservationMismatchError(f"camera {camera!r} is missing; found: {found}")
            image = observation.images[camera]
            if image.ndim != 3 or image.shape[2] != 3 or not image.size or image.dtype != np.uint8:
                raise ObservationMismatchError(
                    f"camera {camera!r} is {image.dtype} {image.shape}; needs uint8 (H, W, 3) RGB"
                )
            images[name] = fit_image(image, self.spec.image_size)
        try:
            check_instruction(observation.instruction)
        except ValueError as error:
            raise ObservationMismatchError(str(error)) from error
        return {**images, self.prompt: observation.instruction}

    def felt(self, state: RobotState) -> dict[str, Array]:
        """The part of a request that is the robot's own state.

        Raises:
            ObservationMismatchError: If it has another shape or is not finite.
        """
        joints = len(self.spec.joint_names)
        if state.q.shape != (joints,) or state.dq.shape != (joints,):
            raise ObservationMismatchError(
                f"q has shape {state.q.shape} and dq {state.dq.shape}; valid: ({joints},)"
            )
        for part in ("q", "dq", "gripper_opening", "pose_tool_in_base"):
            if not np.isfinite(getattr(state, part)).all():
                raise ObservationMismatchError(f"{part} is not finite")
        return {
            name: np.concatenate([part.encode(state) for part in parts])
            for name, parts in self.state.items()
        }


def fit_image(image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """An image (size, size, 3) that is undistorted in black bars, as openpi's client fits it."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return np.ascontiguousarray(image)
    ratio = max(height, width) / size
    fitted = Image.fromarray(image).resize(
        (max(1, int(width / ratio)), max(1, int(height / ratio))), Image.Resampling.BILINEAR
    )
    square = Image.new("RGB", (size, size))
    square.paste(fitted, ((size - fitted.width) // 2, (size - fitted.height) // 2))
    return np.asarray(square)


def load_openpi_contract(path: Path) -> OpenpiContract:
    """Reads a contract.

    Raises:
        CheckpointError: Naming what is missing, unknown or wrong, and what is valid.
    """
    try:
        return _read(path.parent, yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, CheckpointError, TypeError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read(folder: Path, document: Any) -> OpenpiContract:
    values = _map("the file", document)
    unknown = sorted(str(name) for name in set(values) - set(_ENTRIES))
    missing = [name for name in _ENTRIES if name not in values]
    if unknown or missing:
        raise ValueError(
            f"unknown {', '.join(unknown) or 'nothing'}, missing {', '.join(missing) or 'nothing'}"
            f"; entries are {', '.join(_ENTRIES)}"
        )
    opening, joints = values["max_opening"], tuple(_list("joint_names", values["joint_names"]))
    images = {str(name): str(camera) for name, camera in _map("images", values["images"]).items()}
    state = {
        str(name): make_state_parts(_list(f"state: {name}", parts), joints, opening)
        for name, parts in _map("state", values["state"]).items()
    }
    contract = OpenpiContract(
        str(values["server"]), images, state, str(values["prompt"]), _spec(folder, values, images)
    )
    if len(set(contract.names)) < len(contract.names):
        raise ValueError(f"a name stands for two things: {', '.join(contract.names)}")
    return contract


def _spec(folder: Path, values: dict[str, Any], images: Mapping[str, str]) -> PolicySpec:
    name, joints = str(values["action"]), tuple(str(one) for one in values["joint_names"])
    path = folder / name if name.endswith(".yaml") else name
    contract = load_action_contract(path, values["max_opening"], len(joints))
    size, horizon = values["image_size"], values["horizon"]
    for what, value, most in (("image_size", size, _MAX_IMAGE_SIZE), ("horizon", horizon, 1024)):
        if not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"{what} is {value!r}; valid: 1 to {most}")
    return PolicySpec(
        cameras=tuple(dict.fromkeys(images.values())),
        image_size=size,
        joint_names=joints,
        state_names=(),
        horizon=horizon,
        step_dt=contract.step_dt,
        execute_steps=int(values["execute_steps"]),
        feature_name="none",
        feature_shape=(1, horizon, 1),
        latency_s=float(values["latency_s"]),
        robot=str(values["robot"]),
        action=contract.action,
        fits_images=True,
    )


def _map(where: str, values: Any) -> dict[Any, Any]:
    if not isinstance(values, dict) or not values:
        raise ValueError(f"{where} is {values!r}; valid: a map")
    return values


def _list(where: str, values: Any) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise ValueError(f"{where} is {values!r}; valid: a list of names")
    return values
