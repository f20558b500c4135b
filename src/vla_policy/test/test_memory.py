# SPDX-License-Identifier: Apache-2.0
"""Full garbage collections leave out what was there at the start, and nothing else."""

from __future__ import annotations

import gc
import weakref

from vla_policy.memory import spare_full_collections


class Node:
    """Refers to itself, so that reference counts alone do not free it."""

    def __init__(self) -> None:
        self.itself = self


def test_only_what_comes_later_is_looked_at() -> None:
    before, rubbish = Node(), weakref.ref(Node())
    try:
        spare_full_collections()
        after = Node()
        assert rubbish() is None, "what was of no use had to be collected first"
        looked_at = {id(one) for one in gc.get_objects()}
        assert id(before) not in looked_at
        assert id(after) in looked_at
        gone = weakref.ref(after)
        del after
        gc.collect()
        assert gone() is None
    finally:
        gc.unfreeze()
