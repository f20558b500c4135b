# SPDX-License-Identifier: Apache-2.0
"""What any policy asks of an instruction."""

from __future__ import annotations

MAX_CHARACTERS = 1000


def check_instruction(instruction: str) -> None:
    """Refuses an instruction that no policy reads.

    Raises:
        ValueError: If it is empty, or too long to be one.
    """
    if not instruction.strip():
        raise ValueError("the instruction is empty")
    if len(instruction) > MAX_CHARACTERS:
        raise ValueError(
            f"the instruction has {len(instruction)} characters; valid: up to {MAX_CHARACTERS}"
        )
