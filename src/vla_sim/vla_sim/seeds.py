# SPDX-License-Identifier: Apache-2.0
"""Disjoint ranges of seeds, one per purpose.

A policy that is judged on scenes it was trained or selected on tells nothing. Whoever draws a
scene for a purpose takes its seed from the range of that purpose and writes it into a manifest;
whoever evaluates checks the manifests against its own seeds.
"""

from __future__ import annotations

from collections.abc import Iterable

_SPAN = 1_000_000
PURPOSES = ("demonstrations", "selection", "rollouts", "interventions", "evaluation")


class SeedError(ValueError):
    """A seed is outside its range, or two purposes share seeds."""


def range_of(purpose: str) -> range:
    """Return the seeds of a purpose.

    Raises:
        SeedError: There is no such purpose; the message lists the valid ones.
    """
    if purpose not in PURPOSES:
        raise SeedError(f"unknown purpose {purpose!r}; valid: {', '.join(PURPOSES)}")
    start = PURPOSES.index(purpose) * _SPAN
    return range(start, start + _SPAN)


def seeds(purpose: str, count: int, start: int = 0) -> range:
    """Return ``count`` seeds of a purpose, beginning ``start`` seeds into its range.

    Raises:
        SeedError: The purpose is unknown or the seeds leave its range.
    """
    whole = range_of(purpose)
    if count < 0 or start < 0 or start + count > len(whole):
        raise SeedError(
            f"{count} seeds from {start} leave the range of {purpose!r} (0..{len(whole)})"
        )
    return whole[start : start + count]


def purpose_of(seed: int) -> str:
    """Return the purpose whose range holds ``seed``.

    Raises:
        SeedError: The seed is in no range.
    """
    if not 0 <= seed < _SPAN * len(PURPOSES):
        raise SeedError(f"seed {seed} is in no range; valid: 0..{_SPAN * len(PURPOSES) - 1}")
    return PURPOSES[seed // _SPAN]


def check_disjoint(used: Iterable[int], other: Iterable[int]) -> None:
    """Check that two uses share no seed.

    Raises:
        SeedError: They share seeds; the message names up to five.
    """
    shared = sorted(set(used) & set(other))
    if shared:
        raise SeedError(f"{len(shared)} seeds are used twice, e.g. {shared[:5]}")
