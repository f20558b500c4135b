# SPDX-License-Identifier: Apache-2.0
"""Statistics of an episode's columns and of a whole dataset, as the format keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}

Statistics = dict[str, NDArray[Any]]


def column_statistics(values: NDArray[Any]) -> Statistics:
    """Statistics of a column.

    Args:
        values: ``(rows,)`` or ``(rows, entries)``.

    Returns:
        ``min``, ``max``, ``mean``, ``std`` and quantiles, ``(entries,)`` each, and ``count``.
    """
    rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    found: Statistics = {
        "min": rows.min(0),
        "max": rows.max(0),
        "mean": rows.mean(0),
        "std": rows.std(0),
        "count": np.array([len(rows)]),
    }
    for name, quantile in zip(
        QUANTILES, np.quantile(rows, list(QUANTILES.values()), 0), strict=True
    ):
        found[name] = quantile
    return found


def picture_statistics(pictures: Sequence[NDArray[np.uint8]]) -> Statistics:
    """Statistics of a camera per channel, in [0, 1].

    Args:
        pictures: Some of its pictures, ``(height, width, 3)`` uint8, of one size.

    Returns:
        As `column_statistics`, but ``(3, 1, 1)`` each; ``count`` is the number of pictures.
    """
    pixels = np.stack(pictures).reshape(-1, 3) / 255.0
    found = {name: value.reshape(-1, 1, 1) for name, value in column_statistics(pixels).items()}
    return {**found, "count": np.array([len(pictures)])}


def pooled(parts: Sequence[Mapping[str, NDArray[Any]]]) -> Statistics:
    """Statistics of several episodes together; of quantiles the mean, weighted by rows."""
    counts = np.array([float(part["count"][0]) for part in parts])
    weights = counts / counts.sum()

    def mean(name: str) -> NDArray[Any]:
        stacked = np.stack([part[name] for part in parts])
        return np.tensordot(weights, stacked, 1)

    average = mean("mean")
    spread = np.stack([part["std"] ** 2 + (part["mean"] - average) ** 2 for part in parts])
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": average,
        "std": np.sqrt(np.tensordot(weights, spread, 1)),
        "count": np.array([int(counts.sum())]),
        **{name: mean(name) for name in QUANTILES},
    }
