# SPDX-License-Identifier: Apache-2.0
"""Normalisation of a π0: LeRobot's, as its checkpoints carry it, or our ``statistics.json``.

LeRobot's ``policy_preprocessor.json`` lists the steps that an observation goes through; the state
of its normaliser is a safetensors file with ``observation.state.mean`` and the like.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from ..statistics import Statistics
from ..types import Array, CheckpointError

PROCESSOR, OWN = "policy_preprocessor.json", "statistics.json"
_NORMALISER = "normalizer_processor"
# Steps that this package does in its own way. Whatever else is switched on changes the numbers.
_KNOWN = (
    "rename_observations_processor",
    "to_batch_processor",
    "pi0_new_line_processor",
    "tokenizer_processor",
    "device_processor",
    _NORMALISER,
)
# Ends of the interval that is mapped to [-1, 1].
_INTERVALS = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}


def statistics_files(folder: Path) -> list[Path]:
    """The file with a folder's statistics, and the one that says how they are meant.

    Raises:
        CheckpointError: If there is none, or two.
    """
    found = [path for path in (folder / OWN, _state_file(folder)) if path and path.is_file()]
    if len(found) == 1:
        return found if found[0].name == OWN else [found[0], folder / PROCESSOR]
    if found:
        raise CheckpointError(
            f"{folder} has statistics in {' and in '.join(path.name for path in found)}; keep one"
        )
    raise CheckpointError(
        f"statistics are missing in {folder}: neither {OWN} nor a {_NORMALISER} in {PROCESSOR} "
        "with a state_file that is there"
    )


def read_statistics(
    folder: Path, *, horizon: int, state: int, action: int, max_state: int, max_action: int
) -> Statistics:
    """Statistics in the network's own widths: what is beyond state and action is padding.

    Args:
        folder: With one of the two files.
        horizon: Steps in a chunk.
        state: Entries of the state.
        action: Entries of an action.
        max_state: The network's.
        max_action: The network's.

    Raises:
        CheckpointError: Naming what is missing or of another length.
    """
    path = statistics_files(folder)[0]
    if path.name == OWN:
        own = _own(path, horizon)
        parts = {
            "state": (own.state_mean, own.state_std),
            "action": (own.action_mean, own.action_std),
        }
        samples = own.samples
    else:
        modes = _normaliser(folder)["config"]["norm_map"]
        stored = load_file(path)
        parts = {
            "state": _scale(stored, "observation.state", modes.get("STATE"), path),
            "action": _scale(stored, "action", modes.get("ACTION"), path),
        }
        samples = int(np.max(stored.get("observation.state.count", 0)))
    for name, length in (("state", state), ("action", action)):
        found = parts[name][0].shape[-1]
        if found != length:
            raise CheckpointError(
                f"{path} is for {found} entries of the {name}; the contract has {length}"
            )
    state_mean, state_std = _padded(parts["state"], max_state)
    action_mean, action_std = _padded(parts["action"], max_action)
    return Statistics(
        state_mean=state_mean,
        state_std=state_std,
        action_mean=np.broadcast_to(action_mean, (horizon, max_action)).copy(),
        action_std=np.broadcast_to(action_std, (horizon, max_action)).copy(),
        samples=samples,
    )


def _own(path: Path, horizon: int) -> Statistics:
    """As ``Statistics.to_dict`` writes them, or with one row for all steps."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        action = {}
        for name, rows in values["action"].items():
            array = np.asarray(rows, dtype=np.float64)
            action[name] = np.broadcast_to(array, (horizon, array.shape[-1]))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error!r}") from error
    return Statistics.from_dict({**values, "action": action})


def _padded(part: tuple[Array, Array], length: int) -> tuple[Array, Array]:
    mean, std = part
    width = [(0, 0)] * (mean.ndim - 1) + [(0, length - mean.shape[-1])]
    return np.pad(mean, width), np.pad(std, width, constant_values=1.0)


def _state_file(folder: Path) -> Path | None:
    name = _normaliser(folder).get("state_file")
    return None if name is None else folder / Path(str(name)).name


def _normaliser(folder: Path) -> Mapping[str, Any]:
    """The normaliser among LeRobot's steps; empty where there is none.

    Raises:
        CheckpointError: If the file cannot be read or a step does what this package does not.
    """
    path = folder / PROCESSOR
    if not path.is_file():
        return {}
    found: Mapping[str, Any] = {}
    try:
        for step in json.loads(path.read_text(encoding="utf-8"))["steps"]:
            name, config = step.get("registry_name", step.get("class")), step.get("config", {})
            if name not in _KNOWN and config.get("enabled") is not False:
                raise CheckpointError(
                    f"{path} has the step {name!r}, which is not supported; known: "
                    f"{', '.join(_KNOWN)}"
                )
            if name == _NORMALISER:
                found = step
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error!r}") from error
    return found


def _scale(
    stored: Mapping[str, Any], name: str, mode: str | None, path: Path
) -> tuple[Array, Array]:
    """Mean and scale by which LeRobot's mode normalises."""

    def entry(statistic: str) -> Array:
        key = f"{name}.{statistic}"
        if key not in stored:
            raise CheckpointError(f"{path} lacks {key}")
        return np.asarray(stored[key], dtype=np.float64)

    if mode == "MEAN_STD":
        return entry("mean"), entry("std")
    if mode not in _INTERVALS:
        raise CheckpointError(
            f"{path}: {name} is normalised by {mode}; valid: MEAN_STD, {', '.join(_INTERVALS)}"
        )
    low, high = (entry(statistic) for statistic in _INTERVALS[mode])
    return 0.5 * (low + high), 0.5 * (high - low)
