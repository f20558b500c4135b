# SPDX-License-Identifier: Apache-2.0
"""`vla train`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla_nodes.commands import figures
from vla_policy import PolicyError, default_checkpoint
from vla_policy.training.head_training import HeadConfig, train_head
from vla_policy.training.recipe import TrainConfig, train


def main(options: argparse.Namespace) -> int:
    """Trains, or goes on with a training that was stopped."""
    given = {
        "samples": options.samples,
        "max_hours": options.max_hours,
        "threads": options.threads,
        "seed": options.seed,
    }
    config = replace(
        TrainConfig(), **{name: value for name, value in given.items() if value is not None}
    )
    factor = options.learning_rate
    config = replace(config, lr=factor * config.lr, muon_lr=factor * config.muon_lr)
    demonstrations, datasets = options.demonstrations, options.dataset or []
    folders = (
        sorted(path.parent for path in demonstrations.glob("*/manifest.json"))
        if (demonstrations)
        else []
    )
    if problem := _problem(options, folders):
        print(f"vla train: {problem}", file=sys.stderr)
        return 1
    try:
        if options.head == "l1":
            result = train_head(
                folders,
                options.folder,
                options.base or default_checkpoint(),
                HeadConfig(
                    max_hours=options.max_hours or HeadConfig.max_hours, seed=options.seed or 0
                ),
                report=_tell,
            )
        else:
            result = train(
                folders,
                options.folder,
                config,
                base=options.base,
                datasets=datasets,
                mode=options.corrections,
                kinematic_scenes=options.kinematic_scenes if folders else 0,
                device=options.device,
                report=_tell,
            )
    except (PolicyError, ValueError, OSError) as error:
        print(f"vla train: {error}", file=sys.stderr)
        return 1
    if options.json:
        numbers = {name: value for name, value in result.items() if isinstance(value, int | float)}
        others = {name: value for name, value in result.items() if name not in numbers}
        print(figures.report(numbers, {**vars(config), **others}))
    else:
        print(f"checkpoint: {result['checkpoint']}")
    return 0


def _problem(options: argparse.Namespace, folders: list[Path]) -> str:
    """What is wrong with what was asked for; empty = nothing."""
    if options.demonstrations is not None and not folders:
        return f"no demonstrations in {options.demonstrations}; `vla demos` makes them"
    if not folders and not options.dataset:
        return "name a folder of demonstrations (`vla demos`), or a --dataset (`vla convert`)"
    if options.head == "l1" and options.dataset:
        return "--dataset trains the flow; --head l1 learns from demonstrations"
    return ""


def _tell(entry: dict[str, Any]) -> None:
    shown = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in entry.items()
    )
    print(shown, file=sys.stderr)
