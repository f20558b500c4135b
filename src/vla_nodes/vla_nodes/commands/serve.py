# SPDX-License-Identifier: Apache-2.0
"""`vla serve`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from vla_nodes.inference.setup import warm_up
from vla_policy import PolicyError
from vla_policy.memory import keep_memory
from vla_policy.serving.connect import TOKEN
from vla_policy.serving.server import PolicyServer, ServerConfig


def main(options: argparse.Namespace) -> int:
    """Serves a policy until Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("websockets").setLevel(logging.WARNING)
    keep_memory()
    try:
        config = ServerConfig(
            host=options.host,
            port=options.port,
            token=read_token(options.token_file),
            certificate=str(options.certificate or ""),
            private_key=str(options.private_key or ""),
        )
        _serve(options, config)
    except (OSError, PolicyError, ValueError) as error:
        print(f"vla serve: {error}", file=sys.stderr)
        return 1
    return 0


def read_token(file: Path | None) -> str:
    """The token in a file, or in the environment; empty for none. Never on the command line.

    Raises:
        ValueError: If the file is empty.
        OSError: If it cannot be read.
    """
    if file is None:
        return os.environ.get(TOKEN, "")
    token = file.read_text(encoding="utf-8").strip()
    if not token:
        raise ValueError(f"{file} holds no token")
    return token


def _serve(options: argparse.Namespace, config: ServerConfig) -> None:
    # Loads torch, which takes seconds: wrong options are told before.
    from vla_policy import load_policy
    from vla_policy.interface import BatchPolicy
    from vla_policy.policy import NetworkPolicy

    policy = load_policy(options.policy, device=options.device, threads=options.threads)
    if not isinstance(policy, BatchPolicy):
        raise PolicyError(f"{type(policy).__name__} cannot be served")
    if options.compile:
        if not isinstance(policy, NetworkPolicy):
            raise PolicyError(f"{type(policy).__name__} cannot be compiled")
        policy.compile()
    warm_up(policy, 0)
    scheme = "wss" if config.certificate else "ws"

    def ready(port: int) -> None:
        cameras = ", ".join(policy.spec.cameras)
        print(
            f"Serving policy {policy.spec.policy_id} ({policy.spec.robot}; cameras {cameras}) on "
            f"{scheme}://{config.host}:{port}. Ctrl-C ends it.",
            flush=True,
        )

    server = PolicyServer(policy, config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    server.run(ready)
