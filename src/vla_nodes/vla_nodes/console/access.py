# SPDX-License-Identifier: Apache-2.0
"""Who may use the console: one-time tokens, sessions, and one seat for the operator. No network.

A token comes with the address that `vla console` prints, is exchanged once for a session, and is
worth nothing afterwards. A session is a random name in a cookie that scripts cannot read. One
session at a time has the seat, i.e. commands; all may watch, and all may stop.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass, field

TOKEN = "VLA_CONSOLE_TOKEN"  # environment: the first, of whoever tells the address
TOKEN_LIFE = 3600.0  # s that a token may wait to be used
FORGOTTEN = 1e-3  # s per s, of how quick a message can be
TOKEN_BYTES = 24
TOKENS = 16  # that wait at the same time


def new_token() -> str:
    """A name that nobody guesses."""
    return secrets.token_urlsafe(TOKEN_BYTES)


@dataclass
class Allowance:
    """How many messages a connection may send: a bucket that fills at a steady rate.

    Attributes:
        rate: Messages per s.
        burst: Messages at once.
    """

    rate: float
    burst: float
    _level: float = field(default=-1.0)
    _at: float = 0.0

    def take(self, now: float) -> bool:
        """Whether one more is allowed at this time, s."""
        if self._level < 0.0:
            self._level, self._at = self.burst, now
        self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True


@dataclass
class Punctuality:
    """Tells what comes late by a sender's own clock, whatever that says.

    The quickest message so far is the measure; it is forgotten at a rate beyond that of any clock,
    so that two clocks may drift apart.

    Attributes:
        tolerance: s that a message may take longer than the quickest.
    """

    tolerance: float
    _quickest: float = math.inf
    _at: float = 0.0

    def late(self, sent: float, now: float) -> bool:
        """Whether a message comes late; s of the sender's clock and of ours."""
        self._quickest = min(now - sent, self._quickest + FORGOTTEN * (now - self._at))
        self._at = now
        return now - sent - self._quickest > self.tolerance


class Access:
    """Tokens, sessions and the seat. Thread-safe."""

    def __init__(self) -> None:
        """Nobody is known."""
        self._lock = threading.Lock()
        self._tokens: deque[tuple[str, float]] = deque(maxlen=TOKENS)
        self._sessions: set[str] = set()
        self._seat: tuple[str, int] | None = None  # session, connection

    def invite(self, token: str = "") -> str:
        """A token that opens one session: this one, or one that is drawn."""
        token = token or new_token()
        with self._lock:
            self._tokens.append((token, time.monotonic() + TOKEN_LIFE))
        return token

    def redeem(self, token: str) -> str | None:
        """The session that a token opens; None = it is unknown, used or too old."""
        now = time.monotonic()
        with self._lock:
            for known in self._tokens:
                if secrets.compare_digest(known[0].encode(), token.encode()):
                    self._tokens.remove(known)
                    if now > known[1]:
                        return None
                    session = new_token()
                    self._sessions.add(session)
                    return session
        return None

    def knows(self, session: str | None) -> bool:
        """Whether it is a session of this console."""
        with self._lock:
            return session is not None and session in self._sessions

    def sit_down(self, session: str, connection: int) -> bool:
        """Takes the seat for a connection of a session. Returns whether it has it."""
        with self._lock:
            if self._seat is not None and self._seat != (session, connection):
                return False
            self._seat = (session, connection)
            return True

    def stand_up(self, connection: int) -> None:
        """Frees the seat, if this connection has it."""
        with self._lock:
            if self._seat is not None and self._seat[1] == connection:
                self._seat = None

    def seated(self, connection: int) -> bool:
        """Whether this connection has the seat."""
        with self._lock:
            return self._seat is not None and self._seat[1] == connection

    @property
    def taken(self) -> bool:
        """Whether somebody has the seat."""
        with self._lock:
            return self._seat is not None
