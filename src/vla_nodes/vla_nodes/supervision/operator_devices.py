# SPDX-License-Identifier: Apache-2.0
"""Which of the operator's devices somebody holds enabled, without ROS."""

from __future__ import annotations

from vla_nodes.supervision.types import SECOND


class OperatorDevices:
    """Devices say again and again that they are held; silence is a release.

    A device that fell silent while it owned the arm counts as held again only after it has said
    that it was let go.
    """

    def __init__(self, timeout: float) -> None:
        """Args: timeout: Silence after which a device counts as let go, s of ROS time."""
        self._timeout_ns = round(timeout * SECOND)
        self._seen_ns: dict[str, int] = {}  # when each was last held enabled
        self._lost: set[str] = set()

    def hold(self, device: str, now_ns: int) -> bool:
        """A device is held enabled. Returns whether it was pressed just now."""
        pressed = not self.is_held(device, now_ns) and device not in self._lost
        # Names come from whoever publishes: those that are not held any more are not kept.
        held = {name: ns for name, ns in self._seen_ns.items() if self.is_held(name, now_ns)}
        self._seen_ns = {**held, device: now_ns}
        return pressed

    def let_go(self, device: str) -> None:
        """A device says that nobody holds it."""
        self._seen_ns.pop(device, None)
        self._lost.discard(device)

    def lose(self, device: str) -> None:
        """The owner of the arm has fallen silent."""
        self._lost.add(device)

    def is_held(self, device: str, now_ns: int) -> bool:
        """Whether a device was held enabled within the timeout."""
        seen_ns = self._seen_ns.get(device)
        return seen_ns is not None and now_ns - seen_ns <= self._timeout_ns

    def forget(self) -> None:
        """The clock has jumped: what was held is held no more."""
        self._seen_ns.clear()
