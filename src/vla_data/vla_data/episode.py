# SPDX-License-Identifier: Apache-2.0
"""What an episode is and how it ended, as its bag states it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

OUTCOMES = ("unknown", "success", "failure", "canceled", "preempted", "aborted")
OUTCOME_SOURCES = ("none", "operator", "detector", "simulator", "timeout")


@dataclass(frozen=True)
class EpisodeInfo:
    """What is known about an episode when it starts.

    Attributes:
        episode_id: Unique name.
        source: Where the data comes from, e.g. ``sim_franka``.
        task: Name of the task; empty for a free instruction.
        seed: Seed of a simulated scene; None on a real robot.
        instruction: Instruction in force at the start.
        policy_id: Checkpoint in use; empty if none.
        versions: Software name to version.
        calibrations: What is calibrated, e.g. a camera's file or a failure detector, to its id.
        notes: Anything else, key to text.
    """

    episode_id: str
    source: str = ""
    task: str = ""
    seed: int | None = None
    instruction: str = ""
    policy_id: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    calibrations: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.episode_id:
            raise ValueError("episode_id is empty")

    def to_custom_data(self) -> dict[str, str]:
        """Gives the flat texts that go into the bag's metadata."""
        return {
            "episode_id": self.episode_id,
            "source": self.source,
            "task": self.task,
            "seed": "" if self.seed is None else str(self.seed),
            "instruction": self.instruction,
            "policy_id": self.policy_id,
            "versions": json.dumps(dict(self.versions), sort_keys=True),
            "calibrations": json.dumps(dict(self.calibrations), sort_keys=True),
            "notes": json.dumps(dict(self.notes), sort_keys=True),
        }

    @classmethod
    def from_custom_data(cls, data: Mapping[str, str]) -> EpisodeInfo:
        """Reads what `to_custom_data` gives; what is missing takes its default."""
        seed = data.get("seed", "")
        return cls(
            episode_id=data.get("episode_id") or "unknown",
            source=data.get("source", ""),
            task=data.get("task", ""),
            seed=int(seed) if seed else None,
            instruction=data.get("instruction", ""),
            policy_id=data.get("policy_id", ""),
            versions=json.loads(data.get("versions") or "{}"),
            calibrations=json.loads(data.get("calibrations") or "{}"),
            notes=json.loads(data.get("notes") or "{}"),
        )


@dataclass(frozen=True)
class EpisodeOutcome:
    """How an episode ended. The names are those of ``vla_msgs/Outcome``, in lower case.

    Attributes:
        outcome: One of `OUTCOMES`.
        source: Who says so, one of `OUTCOME_SOURCES`.
        message: Detail in one line.

    Raises:
        ValueError: At construction, naming the value and the choices.
    """

    outcome: str = "unknown"
    source: str = "none"
    message: str = ""

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"outcome {self.outcome!r} is not one of {', '.join(OUTCOMES)}")
        if self.source not in OUTCOME_SOURCES:
            raise ValueError(
                f"outcome source {self.source!r} is not one of {', '.join(OUTCOME_SOURCES)}"
            )

    @classmethod
    def from_numbers(cls, outcome: int, source: int, message: str = "") -> EpisodeOutcome:
        """Builds one from the numbers of a ``vla_msgs/Outcome`` message.

        Args:
            outcome: ``UNKNOWN`` .. ``ABORTED``.
            source: ``SOURCE_*``.
            message: Detail in one line.

        Returns:
            The outcome.

        Raises:
            ValueError: If a number is not known.
        """
        if not 0 <= outcome < len(OUTCOMES):
            raise ValueError(f"outcome {outcome} is not within 0 to {len(OUTCOMES) - 1}")
        if not 0 <= source < len(OUTCOME_SOURCES):
            raise ValueError(
                f"outcome source {source} is not within 0 to {len(OUTCOME_SOURCES) - 1}"
            )
        return cls(OUTCOMES[outcome], OUTCOME_SOURCES[source], message)

    def to_custom_data(self) -> dict[str, str]:
        """Gives the flat texts that go into the bag's metadata."""
        return {
            "outcome": self.outcome,
            "outcome_source": self.source,
            "outcome_message": self.message,
        }

    @classmethod
    def from_custom_data(cls, data: Mapping[str, str]) -> EpisodeOutcome:
        """Reads what `to_custom_data` gives; without it the outcome is unknown."""
        return cls(
            outcome=data.get("outcome", "unknown"),
            source=data.get("outcome_source", "none"),
            message=data.get("outcome_message", ""),
        )
