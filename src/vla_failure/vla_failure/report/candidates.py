# SPDX-License-Identifier: Apache-2.0
"""What a report compares unless told otherwise: every detector, with a few settings of each.

Which setting counts is decided on seen tasks, fold by fold. The grids are small on purpose: each
entry is fitted once per fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from ..detectors import CONTROLS, DETECTORS
from ..episodes import Episode, FailureDetectionError
from .study import OURS, Settings


def candidates(
    episodes: Sequence[Episode], names: Sequence[str] = ()
) -> dict[str, Sequence[Settings]]:
    """Settings to choose among, per detector; ours is always there.

    Left out is what some episodes cannot be scored by: comparing consecutive chunks where these do
    not overlap, several samples where too few episodes have them.

    Args:
        episodes: To be judged.
        names: Only these besides ours; none for all.

    Raises:
        FailureDetectionError: If there is no such detector.
    """
    unknown = sorted(set(names) - _GRIDS.keys())
    if unknown:
        raise FailureDetectionError(
            f"no detectors {unknown}; valid: {', '.join(name for name in _GRIDS if name != OURS)}"
        )
    chosen = set(names) | {OURS} if names else set(_GRIDS)
    if sum(episode.samples is not None for episode in episodes) < _SAMPLED:
        chosen -= {name for name in _GRIDS if DETECTORS[name].needs_samples}
    overlap = all(e.chunks.shape[1] > e.info.execute_steps for e in episodes)
    if not overlap:
        chosen -= _OF_CHUNKS
    found = {name: grid for name, grid in _GRIDS.items() if name in chosen}
    return found if overlap else {**found, OURS: [{**s, "chunks": False} for s in found[OURS]]}


def _grid(**values: Sequence[Any]) -> list[Settings]:
    return [dict(zip(values, found, strict=True)) for found in product(*values.values())]


_OF_CHUNKS = {"action_probe", "stac", "stac_single", "reversals", "jerk"}
# Episodes with several samples; of fewer too few successes are left to shape a band.
_SAMPLED = 240
_FLOW = ("mean", "last")
_SUMS = _grid(accumulate=("sum", "mean"))
_NOW = _grid(accumulate=("none", "mean"))
_GRIDS: dict[str, Sequence[Settings]] = {
    OURS: _grid(components=(64, 128)),
    "safe_mlp": _grid(flow=_FLOW, weight_decay=(1e-3, 1e-2)),
    "safe_lstm": _grid(weight_decay=(1e-3, 1e-2)),
    "td_lstm": _grid(weight_decay=(1e-3,)),
    "action_probe": _NOW,
    "mahalanobis": _SUMS,
    "cosine": _grid(accumulate=("sum", "mean"), bank=(1000,)),
    "euclidean": _grid(accumulate=("sum", "mean"), bank=(1000,)),
    "pca_kmeans": _SUMS,
    "rnd": _grid(accumulate=("mean",)),
    "logpzo": _grid(accumulate=("mean",)),
    "stac": _SUMS,
    "stac_single": _SUMS,
    "sample_variance": _NOW,
    "cluster_entropy": _NOW,
    "reversals": _grid(),
    "jerk": _NOW,
}
assert _GRIDS.keys() | CONTROLS.keys() == DETECTORS.keys()
