# SPDX-License-Identifier: Apache-2.0
"""Checkpoint folders: written atomically per file, read without leniency.

``model.safetensors`` (bf16), ``config.json``, ``tokenizer.json``, ``statistics.json``,
``training_log.json`` and ``manifest.json`` (seeds of the demonstrations and of selection).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .interface import Policy
from .nano_pi0 import NanoPi0, NanoPi0Config
from .policy import NanoPi0Policy
from .spec import PolicySpec
from .statistics import Statistics
from .tokenizer import InstructionTokenizer
from .types import CheckpointError

FORMAT = 1
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
PI0 = "policy.yaml"  # beside weights in others' layouts
STATISTICS, LOG, MANIFEST = "statistics.json", "training_log.json", "manifest.json"
_IDENTITY = (WEIGHTS, CONFIG, TOKENIZER, STATISTICS)


def default_checkpoint() -> Path:
    """The folder of the checkpoint that comes with the package."""
    return Path(__file__).parent / "checkpoints" / "nano_pi0"


def save_checkpoint(
    folder: Path,
    *,
    weights: Mapping[str, Tensor],
    network: NanoPi0Config,
    spec: PolicySpec,
    tokenizer: InstructionTokenizer,
    statistics: Statistics,
    training_log: list[dict[str, Any]],
    manifest: dict[str, Any],
) -> str:
    """Writes a checkpoint and returns its policy id.

    Args:
        folder: Made if missing.
        weights: All parameters of ``NanoPi0``, by name; stored in bf16.
        network: Shape of the network.
        spec: What the policy needs and returns.
        tokenizer: Its tokenizer.
        statistics: Its statistics.
        training_log: Entries of the training.
        manifest: Seeds and settings of what it was trained and selected on: ``demonstrations``,
            ``validation_seeds``, ``selection_seeds`` and what else is worth keeping.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = {
        name: w.detach().to("cpu", torch.bfloat16).contiguous() for name, w in weights.items()
    }
    temporary = folder / (WEIGHTS + ".tmp")
    save_file(stored, temporary)
    os.replace(temporary, folder / WEIGHTS)
    tokenizer.save(folder / TOKENIZER)
    config = {
        "format": FORMAT,
        "type": "nano_pi0",
        "network": network.to_dict(),
        "spec": spec.to_dict(),
    }
    write_json(folder, CONFIG, config)
    write_json(folder, STATISTICS, statistics.to_dict())
    write_json(folder, LOG, training_log)
    write_manifest(folder, manifest)
    return policy_id(folder)


def policy_id(folder: Path) -> str:
    """Hash of what decides a policy's behaviour."""
    digest = hashlib.sha256()
    for name in _IDENTITY:
        digest.update(_existing(folder, name).read_bytes())
    return digest.hexdigest()[:16]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The seeds and settings of what a checkpoint was trained and selected on.

    On disk seeds are pairs (first, last) of neighbours; here they are lists of numbers.

    Raises:
        CheckpointError: If it is missing or its seeds cannot be read.
    """
    try:
        return _with_seeds(_read_json(folder, MANIFEST), seeds_of_ranges)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / MANIFEST} cannot be read: {error!r}") from error


def add_selection_seeds(folder: Path, seeds: Iterable[int]) -> None:
    """Notes in a checkpoint's manifest that it was judged on some seeds before it was chosen."""
    manifest = read_manifest(folder)
    manifest["selection_seeds"] = sorted({*manifest["selection_seeds"], *seeds})
    write_manifest(folder, manifest)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes what ``read_manifest`` reads."""
    write_json(folder, MANIFEST, _with_seeds(manifest, seed_ranges))


def seed_ranges(seeds: Iterable[int]) -> list[list[int]]:
    """Pairs (first, last) of neighbouring seeds, in order."""
    ranges: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if ranges and seed == ranges[-1][1] + 1:
            ranges[-1][1] = seed
        else:
            ranges.append([seed, seed])
    return ranges


def seeds_of_ranges(ranges: Iterable[Sequence[int]]) -> list[int]:
    """The seeds of pairs (first, last)."""
    return [seed for first, last in ranges for seed in range(first, last + 1)]


def _with_seeds(manifest: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A manifest with every list of seeds changed."""
    return {
        **manifest,
        "demonstrations": [
            {**entry, **{name: change(entry[name]) for name in ("seeds", "failed_seeds")}}
            for entry in manifest["demonstrations"]
        ],
        **{name: change(manifest[name]) for name in ("selection_seeds", "validation_seeds")},
    }


def load_policy(
    path: Path | str | None = None, *, device: str = "cpu", threads: int | None = 1
) -> Policy:
    """Loads a policy.

    Args:
        path: Checkpoint folder; None for the one that comes with the package.
        device: Where it computes.
        threads: CPU threads per inference; None leaves torch's setting. One is the default because
            on shared cores every operator of a parallel inference waits for the slowest thread.

    Raises:
        CheckpointError: Naming what is missing or does not fit.
    """
    folder = Path(path) if path is not None else default_checkpoint()
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint folder at {folder}")
    if (folder / PI0).is_file():
        return _load_pi0(folder, device, threads)
    config = _read_json(folder, CONFIG)
    if "pi0" in (config.get("type"), config.get("model_type")):
        return _load_pi0(folder, device, threads)
    if config.get("format") != FORMAT:
        raise CheckpointError(f"{folder / CONFIG} has format {config.get('format')}, not {FORMAT}")
    kind = config.get("type")
    if kind not in LOADERS:
        raise CheckpointError(f"unknown policy type {kind!r}; valid: {', '.join(LOADERS)}")
    return LOADERS[kind](folder, config, device, threads)


def _load_nano_pi0(
    folder: Path, config: dict[str, Any], device: str, threads: int | None
) -> Policy:
    for section in ("network", "spec"):
        if section not in config:
            raise CheckpointError(f"{folder / CONFIG} lacks {section!r}")
    try:
        shape = NanoPi0Config(**config["network"])
    except TypeError as error:
        raise CheckpointError(f"{folder / CONFIG}: network: {error}") from error
    statistics = Statistics.from_dict(_read_json(folder, STATISTICS))
    tokenizer = InstructionTokenizer.load(folder / TOKENIZER, shape.text_tokens)
    if tokenizer.vocabulary_size > shape.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {tokenizer.vocabulary_size} entries, the network {shape.vocab_size}"
        )
    expected = (shape.horizon, shape.action_dim)
    if statistics.action_mean.shape != expected or len(statistics.state_mean) != shape.state_dim:
        raise CheckpointError(
            f"statistics are for actions {statistics.action_mean.shape} and a state of "
            f"{len(statistics.state_mean)}; the network has {expected} and {shape.state_dim}"
        )
    network = NanoPi0(shape)
    load_weights(network, _existing(folder, WEIGHTS))
    spec = PolicySpec.from_dict(config["spec"], policy_id(folder))
    return NanoPi0Policy(network, tokenizer, statistics, spec, device, threads)


def load_weights(network: nn.Module, path: Path) -> None:
    """Loads exactly the weights that a module has.

    Raises:
        CheckpointError: Naming what is missing, unexpected or of another shape.
    """
    try:
        weights = load_file(path)
    except Exception as error:  # safetensors raises its own bare exceptions
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    wanted = network.state_dict()
    missing = sorted(wanted.keys() - weights.keys())
    unexpected = sorted(weights.keys() - wanted.keys())
    if missing or unexpected:
        raise CheckpointError(f"{path}: missing weights {missing}, unexpected weights {unexpected}")
    for name, weight in weights.items():
        if weight.shape != wanted[name].shape:
            raise CheckpointError(
                f"{path}: {name} is {tuple(weight.shape)}, not {tuple(wanted[name].shape)}"
            )
    network.load_state_dict({name: weight.float() for name, weight in weights.items()})


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"{name} is missing in {folder}")
    return path


def _read_json(folder: Path, name: str) -> Any:
    path = _existing(folder, name)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error


def write_json(folder: Path, name: str, value: Any) -> None:
    """Writes one file of a checkpoint; a crash leaves the previous one."""
    temporary = folder / (name + ".tmp")
    # Thousands of numbers, a line for each, would bury the rest.
    indent = None if name == MANIFEST else 1
    temporary.write_text(json.dumps(value, indent=indent) + "\n", encoding="utf-8")
    os.replace(temporary, folder / name)


def load_flow_policy(folder: Path, device: str = "cpu", threads: int | None = 1) -> NanoPi0Policy:
    """Loads a nano π0 whose head is the flow, which other heads are built on.

    Raises:
        CheckpointError: If it is something else or incomplete.
    """
    policy = load_policy(folder, device=device, threads=threads)
    if not isinstance(policy, NanoPi0Policy) or not policy.has_flow:
        raise CheckpointError(f"the checkpoint in {folder} is no nano_pi0 with its own head")
    return policy


def _load_pi0(folder: Path, device: str, threads: int | None) -> Policy:
    from .pi0.policy import load_pi0  # which few need

    return load_pi0(folder, device, threads)


def _load_delta(folder: Path, config: dict[str, Any], device: str, threads: int | None) -> Policy:
    from .checkpoint_delta import load_delta  # which loads its base by this module

    return load_delta(folder, config, device, threads)


LOADERS: dict[str, Callable[[Path, dict[str, Any], str, int | None], Policy]] = {
    "nano_pi0": _load_nano_pi0,
    "nano_pi0_l1": _load_delta,
}
