# SPDX-License-Identifier: Apache-2.0
"""Seeds of different purposes never meet."""

from __future__ import annotations

import itertools

import pytest

from vla_sim import seeds


def test_ranges_are_disjoint() -> None:
    for one, other in itertools.combinations(seeds.PURPOSES, 2):
        a, b = seeds.range_of(one), seeds.range_of(other)
        assert a.stop <= b.start or b.stop <= a.start


def test_every_seed_knows_its_purpose() -> None:
    for purpose in seeds.PURPOSES:
        whole = seeds.range_of(purpose)
        assert seeds.purpose_of(whole[0]) == purpose
        assert seeds.purpose_of(whole[-1]) == purpose
    with pytest.raises(seeds.SeedError, match="is in no range"):
        seeds.purpose_of(-1)


def test_unknown_purpose_lists_the_valid_ones() -> None:
    with pytest.raises(seeds.SeedError, match="evaluation"):
        seeds.range_of("holiday")


def test_seeds_stay_in_their_range() -> None:
    assert list(seeds.seeds("selection", 3, start=2)) == [1_000_002, 1_000_003, 1_000_004]
    with pytest.raises(seeds.SeedError, match="leave the range"):
        seeds.seeds("selection", 2, start=999_999)


def test_overlap_is_named() -> None:
    seeds.check_disjoint(range(5), range(5, 9))
    with pytest.raises(seeds.SeedError, match=r"1 seeds are used twice, e\.g\. \[4\]"):
        seeds.check_disjoint(range(5), range(4, 9))
