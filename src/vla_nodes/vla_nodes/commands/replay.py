# SPDX-License-Identifier: Apache-2.0
"""`vla replay`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from vla_data.contract import ContractError
from vla_data.definitions import DefinitionError
from vla_data.episode_reader import EpisodeReadError
from vla_data.observation import ObservationError
from vla_nodes.commands import figures
from vla_nodes.commands.convert import find_contract
from vla_nodes.commands.progress import progress_bar
from vla_nodes.convert import ConversionError
from vla_nodes.recording.replay import ReplayError, replay_control, replay_policy
from vla_nodes.system.description import SystemDescriptionError
from vla_policy import PolicyError, default_checkpoint, load_policy
from vla_sim.suites import SuiteError

ERRORS = (
    ContractError,
    ConversionError,
    DefinitionError,
    EpisodeReadError,
    ObservationError,
    PolicyError,
    ReplayError,
    SuiteError,
    SystemDescriptionError,
    OSError,
)


def main(options: argparse.Namespace) -> int:
    """Replays a bag and reports what differs."""
    try:
        with progress_bar() as progress:
            bar = progress.add_task(options.bag.name, total=100)
            run = _policy if options.policy is not None else _control
            numbers, more = run(options, lambda share: progress.update(bar, completed=100 * share))
    except ERRORS as error:
        print(f"vla replay: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(figures.report(numbers, {"bag": str(options.bag), **more}))
    else:
        for name, value in {**numbers, **more}.items():
            print(f"{name}: {value:g}" if isinstance(value, float) else f"{name}: {value}")
    return 0


def _control(options: argparse.Namespace, tell: Any) -> tuple[dict[str, float], dict[str, Any]]:
    done = replay_control(options.bag, tell, options.suite)
    distances = 1e3 * done.distances
    numbers = {
        "tracking_difference_rms_mm": float(np.sqrt(np.mean(distances**2))),
        "tracking_difference_median_mm": float(np.median(distances)),
        "tracking_difference_max_mm": float(distances.max()),
        "tracking_difference_max_at_s": float(done.times[distances.argmax()]),
        "chunks_count": done.chunks,
        "rejected_count": sum(done.rejected.values()),
    }
    return numbers, {"success": done.success, "rejected": dict(done.rejected)}


def _policy(options: argparse.Namespace, tell: Any) -> tuple[dict[str, float], dict[str, Any]]:
    contract = find_contract([options.bag], options.system, options.contract)
    policy = load_policy(options.policy if str(options.policy) != "nano_pi0" else None)
    policy.reset(0)
    done = replay_policy(options.bag, contract, policy, tell)
    differences = 1e3 * done.differences
    worst = int(differences.argmax())
    numbers = {
        "chunks_count": len(differences),
        "chunk_difference_median_mm": float(np.median(differences)),
        "chunk_difference_max_mm": float(differences[worst]),
        "gripper_difference_median_mm": float(1e3 * np.median(done.openings)),
    }
    more = {
        "policy": str(options.policy or default_checkpoint()),
        "policy_id": policy.spec.policy_id,
        "differs_most_at_stamp_ns": int(done.stamps_ns[worst]),
    }
    return numbers, more
