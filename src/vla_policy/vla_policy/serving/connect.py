# SPDX-License-Identifier: Apache-2.0
"""A policy behind a server, by the name that stands in place of a checkpoint. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..interface import Policy
from .client import ClientConfig, RemotePolicy
from .messages import SchemaMismatchError
from .openpi_client import OpenpiPolicy
from .openpi_contract import load_openpi_contract

TOKEN = "VLA_POLICY_TOKEN"


def is_remote(name: str | Path) -> bool:
    """Whether a policy's name is a server's address, or the file that describes one."""
    return str(name).startswith(("ws://", "wss://")) or str(name).endswith(".yaml")


def connect(
    name: str | Path,
    *,
    joint_names: Sequence[str] | None = None,
    certificates: str = "",
    call_timeout: float = ClientConfig.call_timeout,
    encode_ahead: bool = False,
) -> Policy:
    """Connects to a server, with the token in ``VLA_POLICY_TOKEN``.

    Args:
        name: ``ws://host:port`` or ``wss://host:port`` of this suite's server, or the YAML file of
            an openpi server.
        joint_names: The only ones that will do; None for any.
        certificates: PEM file of the authorities to trust; empty for the system's.
        call_timeout: Longest wait for an answer, s.
        encode_ahead: See ``ClientConfig``.

    Raises:
        PolicyError: If there is no server, or it serves something that does not fit.
        ValueError: If a setting cannot be.
    """
    contract = load_openpi_contract(Path(name)) if str(name).endswith(".yaml") else None
    config = ClientConfig(
        url=contract.server if contract else str(name),
        token=os.environ.get(TOKEN, ""),
        certificates=certificates,
        call_timeout=call_timeout,
        encode_ahead=encode_ahead,
    )
    if contract is None:
        return RemotePolicy(config, {"joint_names": tuple(joint_names)} if joint_names else {})
    if joint_names is not None and tuple(joint_names) != contract.spec.joint_names:
        raise SchemaMismatchError(
            f"{name} is for the joints {', '.join(contract.spec.joint_names)}, not "
            f"{', '.join(joint_names)}"
        )
    return OpenpiPolicy(contract, config)
