# SPDX-License-Identifier: Apache-2.0
"""What shall be done after an inference. Light: imported where no detector is."""

from __future__ import annotations

from enum import IntEnum


class Decision(IntEnum):
    """What shall be done; numbered as in ``FailureStatus``."""

    OK = 0
    WARN = 1
    STOP = 2
    BACKTRACK = 3
    ASK_HELP = 4
    ABSTAIN = 5
