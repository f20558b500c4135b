# SPDX-License-Identifier: Apache-2.0
"""``policy.yaml``: what a folder with π0 weights does not say of the robot that they are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..actions.contracts import ActionContract, load_action_contract
from ..state_parts import StatePart, make_state_parts
from ..types import CheckpointError

FILE = "policy.yaml"
# Entries, with whether they must be there.
_ENTRIES = {
    "robot": True,
    "joint_names": True,
    "cameras": True,
    "state": True,
    "action": True,
    "execute_steps": True,
    "latency_s": True,
    "max_opening": False,
    "weights": False,
    "adapter": False,
}


@dataclass(frozen=True)
class Pi0Contract:
    """How a π0 is connected to a robot.

    Attributes:
        robot: Its name.
        joint_names: Of the arm, in the order of the state.
        cameras: The network's cameras, in its order, to the robot's; None for one that the robot
            has not got.
        state: Parts of the state, in order.
        action: Meaning of the actions, and their rate.
        execute_steps: Executed between two inferences.
        latency_s: Inference latency assumed in lockstep evaluation, s.
        weights: Folder with the network.
        adapter: Folder with a LoRA adapter; None for none.
    """

    robot: str
    joint_names: tuple[str, ...]
    cameras: Mapping[str, str | None]
    state: tuple[StatePart, ...]
    action: ActionContract
    execute_steps: int
    latency_s: float
    weights: Path
    adapter: Path | None

    @property
    def state_names(self) -> tuple[str, ...]:
        """Entries of the state, in order."""
        return tuple(name for part in self.state for name in part.names)


def read_contract(folder: Path) -> Pi0Contract:
    """Reads a folder's ``policy.yaml``.

    Raises:
        CheckpointError: Naming what is missing, unknown or wrong, and what is valid.
    """
    path = folder / FILE
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{FILE} is missing in {folder}; it says what robot, cameras, state and actions the "
            "weights are for"
        ) from error
    except yaml.YAMLError as error:
        raise CheckpointError(f"{path} is not YAML: {error}") from error
    try:
        return _read(folder, document)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read(folder: Path, document: Any) -> Pi0Contract:
    if not isinstance(document, dict):
        raise ValueError("is not a mapping")
    unknown = sorted(str(name) for name in set(document) - set(_ENTRIES))
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}; valid: {', '.join(_ENTRIES)}")
    missing = [name for name, needed in _ENTRIES.items() if needed and name not in document]
    if missing:
        raise ValueError(f"lacks {', '.join(missing)}")
    for name in ("joint_names", "state"):
        if not isinstance(document[name], list) or not document[name]:
            raise ValueError(f"{name} is {document[name]!r}; valid: a list of names")
    opening = document.get("max_opening")
    joints = tuple(str(name) for name in document["joint_names"])
    adapter = document.get("adapter")
    return Pi0Contract(
        robot=str(document["robot"]),
        joint_names=joints,
        cameras=_cameras(document["cameras"]),
        state=make_state_parts(document["state"], joints, opening),
        action=_action(folder, document["action"], opening, len(joints)),
        execute_steps=int(document["execute_steps"]),
        latency_s=float(document["latency_s"]),
        weights=_folder(folder, "weights", document.get("weights", ".")),
        adapter=None if adapter is None else _folder(folder, "adapter", adapter),
    )


def _cameras(values: Any) -> dict[str, str | None]:
    if not isinstance(values, dict):
        raise ValueError(
            f"cameras is {values!r}; valid: the network's cameras to the robot's, null for none"
        )
    given = [str(name) for name in values.values() if name is not None]
    if not given or len(set(given)) != len(given):
        raise ValueError(f"cameras are {values}; valid: one or more, none of the robot's twice")
    return {str(theirs): None if ours is None else str(ours) for theirs, ours in values.items()}


def _action(folder: Path, name: Any, max_opening: float | None, joints: int) -> ActionContract:
    if not isinstance(name, str):
        raise ValueError(f"action is {name!r}; valid: the name of a contract, or a .yaml file")
    path = folder / name if name.endswith(".yaml") else name
    return load_action_contract(path, max_opening, joints)


def _folder(base: Path, name: str, value: Any) -> Path:
    path = base / str(value)
    if not path.is_dir():
        raise ValueError(f"{name}: no folder {path}")
    return path
