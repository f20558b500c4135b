# SPDX-License-Identifier: Apache-2.0
"""Action spaces of public checkpoints and data sets, one YAML file each, with sources.

A checkpoint trained in one of these conventions plugs in by its name; for another one, write a
file like these and give its path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..spec import ActionSpec

_FOLDER = Path(__file__).parent
_ENTRIES = {"sources", "step_dt", "action"}


@dataclass(frozen=True)
class ActionContract:
    """An action space and its rate.

    Attributes:
        name: Of the file.
        action: Meaning of the vectors.
        step_dt: Time between steps, s.
        sources: Where the facts are from.
    """

    name: str
    action: ActionSpec
    step_dt: float
    sources: tuple[str, ...]


def names() -> tuple[str, ...]:
    """The contracts that come with the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_action_contract(
    name: str | Path, max_opening: float | None, joints: int | None = None
) -> ActionContract:
    """Reads a contract for a robot.

    Args:
        name: One of ``names()``, or the path of a YAML file.
        max_opening: Of the gripper that the actions are for, m; None where they are in m.
        joints: Of the arm; None for any number.

    Raises:
        ValueError: Naming what is unknown, missing or wrong, and what is valid.
    """
    path = Path(name)
    if path.suffix != ".yaml":
        path = _FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(
            f"no action contract {str(name)!r}; valid: {', '.join(names())}, or a .yaml file"
        )
    try:
        contract = _read(path.stem, yaml.safe_load(path.read_text(encoding="utf-8")), max_opening)
        if joints is not None and contract.action.joints not in (None, joints):
            raise ValueError(f"is for {contract.action.joints} joints, not {joints}")
        return contract
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from None


def _read(name: str, document: Any, max_opening: float | None) -> ActionContract:
    if not isinstance(document, dict) or set(document) != _ENTRIES:
        raise ValueError(f"must have exactly the entries {', '.join(sorted(_ENTRIES))}")
    step_dt = document["step_dt"]
    if not isinstance(step_dt, float) or not step_dt > 0.0:
        raise ValueError(f"step_dt is {step_dt!r}; valid: a positive number of s")
    values = dict(document["action"])
    gripper = dict(values.get("gripper", {}))
    if gripper.get("unit") == "fraction":
        gripper["max_opening"] = max_opening
    if values.get("quantity") == "joint_velocity":
        values["step_dt"] = step_dt
    action = ActionSpec.from_dict({**values, "gripper": gripper})
    return ActionContract(name, action, step_dt, tuple(document["sources"]))
