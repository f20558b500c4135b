# SPDX-License-Identifier: Apache-2.0
"""From demonstrations to a checkpoint: the steps of ``vla train``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla_sim.samples import MANIFEST
from vla_sim.samples import read_manifest as read_demonstrations_manifest

from ..actions.spec import ACTION_DIM
from ..checkpoint import load_flow_policy, policy_id, read_manifest, save_checkpoint
from ..nano_pi0 import NanoPi0Config
from ..policy import NanoPi0Policy
from ..spec import PolicySpec
from ..state_encoding import state_names
from ..tokenizer import InstructionTokenizer
from .converted import ChunkSettings, instructions_of, joined, load_converted, repeated
from .demonstrations import DemonstrationSet, all_instructions, load_demonstrations
from .kinematic_demonstrations import collect_kinematic
from .trainer import LOG_FILE, STATE_FILE, TrainConfig, Trainer

Report = Callable[[dict[str, Any]], None]

# Kinematic scenes take their seeds from here on, each set within a span of its own.
_KINEMATIC_SEED = 500_000
_KINEMATIC_SPAN = 40_000

# Assumed from observation to the chunk's arrival, s; see ``vla bench policy``.
DEFAULT_LATENCY_S = 0.1


def network_config(demonstrations: DemonstrationSet, **overrides: int) -> NanoPi0Config:
    """Shape of the network that fits some demonstrations."""
    joints = len(demonstrations.joint_names)
    vocabulary = demonstrations.tokenizer.vocabulary_size
    return NanoPi0Config(
        vocab_size=64 * ((vocabulary + 63) // 64),
        image_token_id=demonstrations.tokenizer.image_token_id,
        state_dim=2 * joints + 10,
        action_dim=ACTION_DIM,
        horizon=demonstrations.horizon,
        cameras=len(demonstrations.cameras),
        image_size=demonstrations.image_size,
        text_tokens=demonstrations.tokenizer.length,
        **overrides,
    )


def policy_spec(
    demonstrations: DemonstrationSet, shape: NanoPi0Config, latency_s: float
) -> PolicySpec:
    """Specification of a policy trained on some demonstrations."""
    return PolicySpec(
        cameras=demonstrations.cameras,
        image_size=shape.image_size,
        joint_names=demonstrations.joint_names,
        state_names=state_names(demonstrations.joint_names),
        horizon=shape.horizon,
        step_dt=demonstrations.step_dt,
        execute_steps=demonstrations.execute_steps,
        feature_name="pre_velocity",
        feature_shape=(shape.flow_steps, shape.horizon, shape.expert_width),
        latency_s=latency_s,
        robot=demonstrations.robot,
    )


def train(
    folders: Sequence[Path],
    out_dir: Path,
    config: TrainConfig | None = None,
    *,
    base: Path | None = None,
    datasets: Sequence[Path] = (),
    mode: str = "all",
    rate: float = 5.0,
    kinematic_scenes: int = 0,
    device: str | None = None,
    latency_s: float = DEFAULT_LATENCY_S,
    report: Report | None = None,
) -> dict[str, Any]:
    """Trains on demonstrations and writes ``out_dir/checkpoint``.

    The checkpoint is written anew with every saved state. Interrupted by SIGINT or SIGTERM it
    saves first; called again with the same folder it continues.

    Args:
        folders: One data set of demonstrations per task; may be empty with ``datasets``.
        out_dir: For images, state, log and checkpoint.
        config: How to train.
        base: Checkpoint whose policy goes on learning: its weights, words and statistics are the
            start. None starts from nothing.
        datasets: Recorded episodes, converted by ``vla convert``.
        mode: Which of their rows are learnt from, one of ``converted.MODES``.
        rate: Chunk starts per second of an episode that are used.
        kinematic_scenes: Scenes in each of three sets per task that are demonstrated without
            physics beside ``folders``; see ``kinematic_demonstrations``. They teach seeing and
            choosing; the checkpoint that comes with the package saw 2500.
        device: ``cpu``, ``cuda`` or None for CUDA where present.
        latency_s: Inference latency stored with the checkpoint, s.
        report: Called with every log entry.

    Returns:
        What was reached and what was kept.
    """

    def rendered(name: str, done: int, total: int) -> None:
        if report is not None:
            report({"event": "rendering", "data": name, "done": done, "total": total})

    folders = [*folders, *_kinematic(folders, out_dir / "kinematic", kinematic_scenes)]
    learner = None if base is None else load_flow_policy(base)
    words = [*all_instructions(), *instructions_of(datasets)]
    tokenizer = learner.tokenizer.extended(words) if learner else InstructionTokenizer.build(words)
    demonstrations = None
    if folders:
        demonstrations = load_demonstrations(
            folders,
            out_dir / "cache",
            rate=rate,
            tokenizer=tokenizer,
            statistics=learner.statistics if learner else None,
            report=rendered,
        )
    if datasets:
        demonstrations = _with_converted(
            demonstrations, datasets, out_dir / "cache", mode, tokenizer, learner, rate
        )
    if demonstrations is None:
        raise ValueError("neither demonstrations nor datasets to learn from")
    shape = network_config(demonstrations)
    if learner is not None and shape != learner.network.config:
        raise ValueError(
            f"the policy in {base} has another shape than these demonstrations ask for: "
            f"{learner.network.config} and {shape}"
        )
    checkpoint = out_dir / "checkpoint"

    past = None if base is None else read_manifest(base)

    def save(trainer: Trainer) -> None:
        export(trainer, demonstrations, checkpoint, latency_s, past)

    trainer = Trainer(
        config or TrainConfig(),
        shape,
        demonstrations.data,
        out_dir,
        device=device,
        report=report,
        on_save=save,
    )
    if learner is not None and trainer.samples == 0:
        trainer.start_from(learner.network.state_dict(), learner.spec.policy_id)
    result = trainer.run()
    return {**result, "checkpoint": str(checkpoint), "policy_id": policy_id(checkpoint)}


def _with_converted(
    demonstrations: DemonstrationSet | None,
    datasets: Sequence[Path],
    cache_dir: Path,
    mode: str,
    tokenizer: InstructionTokenizer,
    learner: NanoPi0Policy | None,
    rate: float,
) -> DemonstrationSet:
    """Demonstrations, if any, and converted episodes as one."""
    settings = ChunkSettings()
    if learner is not None:
        spec = learner.spec
        settings = ChunkSettings(
            spec.horizon, spec.step_dt, spec.execute_steps, spec.cameras, spec.image_size
        )
    statistics = learner.statistics if learner else None
    if demonstrations is not None:
        statistics = demonstrations.data.statistics
    made, corrections = load_converted(
        datasets, cache_dir, settings, mode, tokenizer, rate=rate, statistics=statistics
    )
    data, manifest, before = made.data, made.manifest, 0
    if demonstrations is not None:
        if demonstrations.joint_names != made.joint_names:
            raise ValueError(
                f"the datasets are of {', '.join(made.joint_names)}, the demonstrations of "
                f"{', '.join(demonstrations.joint_names)}"
            )
        before = len(demonstrations.data.state)
        data = joined(demonstrations.data, data)
        manifest = with_past(manifest, demonstrations.manifest)
    if mode == "weighted":
        data = repeated(data, np.concatenate([np.zeros(before, dtype=np.bool_), corrections]))
    return replace(made, data=data, manifest=manifest)


def _kinematic(folders: Sequence[Path], out_dir: Path, scenes: int) -> list[Path]:
    """Kinematic demonstrations for the tasks of some data sets; made where they are missing.

    Three sets per task: whole episodes, first seconds, and first seconds of an arm that begins
    anywhere. Their seeds lie in the upper half of the demonstrations' range; a seed gives every
    task a scene of its own.
    """
    if not 0 <= scenes <= _KINEMATIC_SPAN:
        raise ValueError(f"{scenes} kinematic scenes; valid: 0 to {_KINEMATIC_SPAN}")
    if scenes == 0:
        return []
    variants: dict[str, dict[str, Any]] = {
        "whole": {"samples_per_episode": 5},
        "first": {"samples_per_episode": 2, "first_s": 1.0},
        "astray": {"samples_per_episode": 2, "first_s": 0.8, "astray": 1.0},
    }
    made = []
    manifests = [read_demonstrations_manifest(folder) for folder in folders]
    for manifest in manifests:
        for place, (name, settings) in enumerate(variants.items()):
            folder = out_dir / f"{manifest['task']}_{name}"
            first = _KINEMATIC_SEED + _KINEMATIC_SPAN * place
            if not (folder / MANIFEST).is_file():
                seeds = range(first, first + scenes)
                collect_kinematic(
                    manifest["task"],
                    manifest["robot"],
                    seeds,
                    folder,
                    suite=manifest["suite"],
                    **settings,
                )
            made.append(folder)
    return made


def export(
    trainer: Trainer,
    demonstrations: DemonstrationSet,
    folder: Path,
    latency_s: float,
    past: dict[str, Any] | None = None,
) -> str:
    """Writes the averaged weights as a checkpoint and returns its policy id.

    Args:
        trainer: With the weights.
        demonstrations: What they learnt from.
        folder: Of the checkpoint.
        latency_s: Stored with it, s.
        past: Manifest of the policy that they began as, whose scenes they have seen too.
    """
    before = read_manifest(folder) if (folder / MANIFEST).is_file() else past
    manifest = {
        **with_past(demonstrations.manifest, past),
        "selection_seeds": before["selection_seeds"] if before else [],
        "training": {
            "samples": trainer.samples,
            "elapsed_s": trainer.elapsed,
            "torch": torch.__version__,
            "written": time.strftime("%Y-%m-%d", time.gmtime()),
        },
    }
    return save_checkpoint(
        folder,
        weights=trainer.average_weights(),
        network=trainer.shape,
        spec=policy_spec(demonstrations, trainer.shape, latency_s),
        tokenizer=demonstrations.tokenizer,
        statistics=demonstrations.data.statistics,
        training_log=read_log(trainer.out_dir),
        manifest=manifest,
    )


def with_past(manifest: dict[str, Any], past: dict[str, Any] | None) -> dict[str, Any]:
    """A manifest with the scenes of an earlier one before its own."""
    if past is None:
        return manifest
    return {
        **manifest,
        "demonstrations": [*past["demonstrations"], *manifest["demonstrations"]],
        "validation_seeds": sorted({*past["validation_seeds"], *manifest["validation_seeds"]}),
    }


def read_log(out_dir: Path) -> list[dict[str, Any]]:
    """Entries of a training's log."""
    path = out_dir / LOG_FILE
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


__all__ = ["STATE_FILE", "TrainConfig", "export", "network_config", "policy_spec", "train"]
