# SPDX-License-Identifier: Apache-2.0
"""A policy behind a server, from a node's parameters. Needs no torch."""

from __future__ import annotations

import os

from vla_nodes.configs import PolicyConfig
from vla_policy import PolicyError
from vla_policy.serving.client import ClientConfig, RemotePolicy

TOKEN = "VLA_POLICY_TOKEN"


def connect(config: PolicyConfig) -> RemotePolicy:
    """Connects to the server that ``checkpoint`` names, with the token in ``VLA_POLICY_TOKEN``.

    Raises:
        ValueError: If there is none, or it serves something that does not fit this robot.
    """
    try:
        policy = RemotePolicy(
            ClientConfig(
                url=config.checkpoint,
                token=os.environ.get(TOKEN, ""),
                certificates=config.certificates,
                call_timeout=config.server_timeout,
            ),
            expected={"joint_names": config.joint_names},
        )
        policy.reset(config.seed)
    except PolicyError as error:
        raise ValueError(str(error)) from error
    return policy
