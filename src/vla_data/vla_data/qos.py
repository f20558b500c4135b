# SPDX-License-Identifier: Apache-2.0
"""Offered quality of service, as rosbag2's version 9 metadata writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

INFINITE_NS = 9_223_372_036_854_775_807
CHOICES = {
    "history": ("keep_last", "keep_all", "system_default", "unknown"),
    "reliability": ("reliable", "best_effort", "system_default", "unknown"),
    "durability": ("volatile", "transient_local", "system_default", "unknown"),
    "liveliness": ("automatic", "manual_by_topic", "system_default", "unknown"),
}


@dataclass(frozen=True)
class QosProfile:
    """One publisher's profile.

    Attributes:
        history: One of `CHOICES`, as are reliability, durability and liveliness.
        depth: Queue length in messages.
        deadline_ns: ns; infinite by default, as are lifespan and liveliness lease.
        avoid_ros_namespace_conventions: Topic name is used as it is on the wire.

    Raises:
        ValueError: At construction, naming the value and the choices.
    """

    history: str = "keep_last"
    depth: int = 10
    reliability: str = "reliable"
    durability: str = "volatile"
    deadline_ns: int = INFINITE_NS
    lifespan_ns: int = INFINITE_NS
    liveliness: str = "automatic"
    liveliness_lease_duration_ns: int = INFINITE_NS
    avoid_ros_namespace_conventions: bool = False

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"QoS {name} {value!r} is not one of {', '.join(choices)}")
        if self.depth < 0:
            raise ValueError(f"QoS depth {self.depth} is negative")

    def to_dict(self) -> dict[str, Any]:
        """Gives the profile as rosbag2's metadata holds it."""
        return {
            "history": self.history,
            "depth": self.depth,
            "reliability": self.reliability,
            "durability": self.durability,
            "deadline": _duration(self.deadline_ns),
            "lifespan": _duration(self.lifespan_ns),
            "liveliness": self.liveliness,
            "liveliness_lease_duration": _duration(self.liveliness_lease_duration_ns),
            "avoid_ros_namespace_conventions": self.avoid_ros_namespace_conventions,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QosProfile:
        """Reads what `to_dict` gives."""
        return cls(
            history=values["history"],
            depth=values["depth"],
            reliability=values["reliability"],
            durability=values["durability"],
            deadline_ns=_ns(values["deadline"]),
            lifespan_ns=_ns(values["lifespan"]),
            liveliness=values["liveliness"],
            liveliness_lease_duration_ns=_ns(values["liveliness_lease_duration"]),
            avoid_ros_namespace_conventions=values["avoid_ros_namespace_conventions"],
        )


def dump_profiles(profiles: Sequence[QosProfile]) -> str:
    """Writes profiles as the YAML text that an MCAP channel carries."""
    if not profiles:
        return ""
    return str(yaml.safe_dump([profile.to_dict() for profile in profiles], sort_keys=False)).strip()


def _duration(ns: int) -> dict[str, int]:
    return {"sec": ns // 1_000_000_000, "nsec": ns % 1_000_000_000}


def _ns(duration: Mapping[str, int]) -> int:
    return duration["sec"] * 1_000_000_000 + duration["nsec"]
