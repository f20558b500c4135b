# SPDX-License-Identifier: Apache-2.0
"""One owner of an arm per ROS domain of a machine, without waiting for DDS to find the other.

Discovery takes from nothing to several seconds, and in that time two supervisors would each grant
the arm to somebody. A name in the abstract namespace of Unix sockets is taken or it is not, goes
with the process that holds it however that ends, and reaches exactly as far as the loopback
interface. Supervisors on two machines still find each other by their heartbeats alone.
"""

from __future__ import annotations

import socket

RIVAL = "another supervisor runs in this ROS domain; end it, or choose another ROS_DOMAIN_ID"


class RivalError(OSError):
    """Somebody on this machine owns the arm already."""


def hold(owner_topic: str, domain: int) -> socket.socket:
    """Takes the right to own an arm.

    Args:
        owner_topic: Full name of the topic on which its owner is told, e.g. ``/control_owner``.
        domain: ROS domain.

    Returns:
        What holds the right until it is closed or the process ends.

    Raises:
        RivalError: Somebody else holds it.
    """
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0vla_nodes/{domain}{owner_topic}")
    except OSError:
        holder.close()
        raise RivalError(RIVAL) from None
    return holder


def is_held(owner_topic: str, domain: int) -> bool:
    """Whether somebody on this machine holds the right; arguments as in :func:`hold`."""
    try:
        hold(owner_topic, domain).close()
    except RivalError:
        return True
    return False
