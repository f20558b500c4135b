# SPDX-License-Identifier: Apache-2.0
"""`vla rollouts`."""

from __future__ import annotations

import argparse
import sys

from vla_failure.rollouts.collecting import (
    RolloutConfig,
    ShardReport,
    collect_rollouts,
    missing_shards,
)
from vla_failure.rollouts.perturbations import PERTURBATIONS
from vla_nodes.commands import figures
from vla_nodes.commands.progress import progress_bar
from vla_policy import PolicyError, default_checkpoint


def main(options: argparse.Namespace) -> int:
    """Runs a policy over tasks and perturbations, and keeps what a failure detector may see."""
    try:
        config = RolloutConfig(
            checkpoint=options.policy or default_checkpoint(),
            folder=options.folder,
            suite=options.suite,
            tasks=tuple(options.task or ()),
            robot=options.robot,
            episodes=options.episodes,
            first=options.first,
            perturbations=tuple(options.perturbation or PERTURBATIONS),
            samples=options.samples,
            sampled=options.sampled,
            workers=options.workers,
        )
        missing = missing_shards(config)
        with progress_bar() as progress:
            bar = progress.add_task("episodes", total=sum(len(shard.seeds) for shard in missing))

            def advance(report: ShardReport) -> None:
                progress.advance(bar, report.episodes)

            result = collect_rollouts(config, advance)
    except (PolicyError, ValueError, OSError) as error:
        print(f"vla rollouts: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"vla rollouts: stopped; finished shards are kept in {options.folder}", file=sys.stderr
        )
        return 130
    if options.json:
        print(figures.report(**result))
    else:
        for name, value in result["figures"].items():
            print(f"{name}: {value:g}")
    return 0
