# SPDX-License-Identifier: Apache-2.0
"""From another policy's files to rollouts on disk."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..binding import Binding
from ..episodes import Episode, FailureDetectionError
from ..store import write_manifest, write_shard
from . import openpi, openvla
from .libero import STEP_DT

_SHARD = 20


@dataclass(frozen=True)
class Layout:
    """How a policy's rollouts lie on disk.

    Attributes:
        read: Yields episodes and the shapes of their features, from a folder and a policy's id.
        features: What they are.
    """

    read: Callable[[Path, str], Iterator[tuple[Episode, tuple[int, int, int]]]]
    features: str


LAYOUTS = {
    "openvla": Layout(openvla.read_openvla, openvla.FEATURES),
    "openpi": Layout(openpi.read_openpi, openpi.FEATURES),
}


def import_rollouts(layout: str, source: Path, folder: Path) -> dict[str, Any]:
    """Reads rollouts and writes them as ``vla rollouts`` does.

    A calibration of them holds for no policy that runs here: what they were made with is not known.

    Args:
        layout: Name in ``LAYOUTS``.
        source: Folder of the files.
        folder: Receives the rollouts; empty or new.

    Returns:
        Figures and settings.

    Raises:
        FailureDetectionError: Naming what is missing, given twice or not as expected.
    """
    if layout not in LAYOUTS:
        raise FailureDetectionError(f"unknown layout {layout!r}; valid: {', '.join(LAYOUTS)}")
    if folder.exists() and any(folder.iterdir()):
        raise FailureDetectionError(f"{folder} is not empty")
    chosen = LAYOUTS[layout]
    policy = f"{layout}-" + hashlib.sha256(source.resolve().name.encode()).hexdigest()[:8]
    episodes = chosen.read(source, policy)
    shapes: set[tuple[int, int, int]] = set()
    outcomes: Counter[str] = Counter()
    execute_steps: set[int] = set()
    number = 0
    while part := list(islice(episodes, _SHARD)):
        write_shard(folder, f"{layout}-{number:05d}", [episode for episode, _ in part])
        shapes |= {shape for _, shape in part}
        outcomes.update(str(episode.info.outcome) for episode, _ in part)
        execute_steps |= {episode.info.execute_steps for episode, _ in part}
        number += 1
    if len(shapes) != 1 or len(execute_steps) != 1:
        raise FailureDetectionError(
            f"{source} has features of {sorted(shapes)} and replans every {sorted(execute_steps)} "
            "steps; rollouts of one folder are of one policy"
        )
    binding = Binding(
        policy_id=policy,
        feature_name=chosen.features,
        feature_shape=next(iter(shapes)),
        sampler="unknown",
        schedule="unknown",
        execute_steps=next(iter(execute_steps)),
        step_dt=STEP_DT,
        latency_s=0.0,
        cameras=(),
        image_size=0,
        robot="unknown",
    )
    settings = {"layout": layout, "source": source.name, "binding": binding.to_dict()}
    write_manifest(folder, settings)
    return {
        "figures": {
            "episodes_count": outcomes.total(),
            **{f"{outcome}_count": count for outcome, count in sorted(outcomes.items())},
        },
        "settings": settings,
    }
