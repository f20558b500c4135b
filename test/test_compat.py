# SPDX-License-Identifier: Apache-2.0
"""The packages in compat have upstream's wire format: their type hashes are upstream's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

# Made by rosidl from upstream's Jazzy branches: control_msgs 5.8, franka_msgs 3.4.
UPSTREAM = {
    "control_msgs/action/GripperCommand": (
        "RIHS01_e17c0e644eccf14bea84a0a93e0977182872c2eb7873ca6694900059b46dbc84"
    ),
    "control_msgs/action/ParallelGripperCommand": (
        "RIHS01_adfd3c1ebe8abc38ebcc0e454b6423d291d4010dd5697d14eca5b9be4726ae18"
    ),
    "franka_msgs/action/Grasp": (
        "RIHS01_8e8a4bb9d96564ae56fb2d47e932c65656316f5c10365958a26df3517a06bb92"
    ),
    "franka_msgs/action/Homing": (
        "RIHS01_2156a4bd902561e59e6081ba94428daf9a453f960596f8b7ca12e8281e0caeeb"
    ),
    "franka_msgs/action/Move": (
        "RIHS01_ff1f93537cae0ce92792433e368199606771ad62bb819d78078bfe37144d3ef1"
    ),
}


def installed_hash(name: str) -> str:
    """The hash of a type as built here."""
    for prefix in os.environ["AMENT_PREFIX_PATH"].split(":"):
        path = Path(prefix) / "share" / f"{name}.json"
        if path.is_file():
            entries = json.loads(path.read_text())["type_hashes"]
            return next(one["hash_string"] for one in entries if one["type_name"] == name)
    raise LookupError(f"{name} is not installed")


@pytest.mark.parametrize("name", sorted(UPSTREAM))
def test_the_type_hash_is_upstreams(name: str) -> None:
    assert installed_hash(name) == UPSTREAM[name]


def test_every_action_declared_here_is_compared() -> None:
    folder = Path(__file__).parents[1] / "compat"
    declared = {
        f"{path.parent.parent.name}/action/{path.stem}" for path in folder.glob("*/action/*.action")
    }
    assert declared == set(UPSTREAM)
