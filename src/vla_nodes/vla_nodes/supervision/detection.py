# SPDX-License-Identifier: Apache-2.0
"""What the supervisor knows of the failure detector: what it says, and whether it still speaks."""

from __future__ import annotations

from dataclasses import dataclass

from vla_failure.decision import Decision
from vla_failure.reaction import Reaction
from vla_nodes.supervision.types import SECOND

FINE = (Decision.OK, Decision.WARN)


@dataclass(frozen=True)
class Word:
    """One status of the detector.

    Attributes:
        boot_id: Of the supervisor that it has heard last.
        grant: That it has heard last.
        decision: What shall be done.
        reason: Why.
        margin: From the score up to the band, in its widths; NaN = unknown.
        stamp_ns: When what was judged was observed; 0 = nothing was.
    """

    boot_id: int
    grant: int
    decision: Decision
    reason: str
    margin: float
    stamp_ns: int


class Detection:
    """Follows a detector. A verdict counts for the grant that it was given under, and no other.

    Args:
        timeout: s of ROS time without a word after which the detector is silent; 0 = none is
            required, but one that speaks is obeyed.
    """

    def __init__(self, timeout: float) -> None:
        self.reaction = Reaction()
        self._timeout_ns = round(timeout * SECOND)
        self._last: Word | None = None
        self._heard_ns = 0  # of any word to this supervisor
        self._counted_ns = 0  # of the last that counted

    @property
    def required(self) -> bool:
        """Whether the policy may move the arm only while a detector speaks."""
        return self._timeout_ns > 0

    @property
    def speaks(self) -> bool:
        """Whether a word was heard since the last reset."""
        return self._last is not None

    @property
    def objects(self) -> bool:
        """Whether the last word was neither OK nor WARN."""
        return self._last is not None and self._last.decision not in FINE

    def hear(self, word: Word, boot_id: int, grant: int, now_ns: int) -> bool:
        """Takes a word. Returns whether it counts under a grant."""
        if word.boot_id != boot_id:
            return False
        self._last, self._heard_ns = word, now_ns
        if word.grant != grant:
            return False
        self._counted_ns = now_ns
        return True

    def forget(self) -> None:
        """Somebody has reset what the detector had latched: its next word counts."""
        self._last = None

    def silent(self, grant_ns: int, now_ns: int) -> bool:
        """Whether nothing that counts was heard for too long under a grant of some time."""
        since = max(grant_ns, self._counted_ns)
        return self.required and now_ns - since > self._timeout_ns

    def objection(self, now_ns: int) -> str:
        """Why the policy must not be given the arm; empty = it may."""
        if self.required and (
            self._last is None or not 0 <= now_ns - self._heard_ns <= self._timeout_ns
        ):
            return "the failure detector is silent"
        if self.objects:
            return f"{describe(self._last)}; supervisor/reset releases"
        return ""


def describe(word: Word | None) -> str:
    """A word for people."""
    return f"failure detector, {word.decision.name}: {word.reason}" if word else ""
