# SPDX-License-Identifier: Apache-2.0
"""Action heads: what makes a chunk of an encoded prefix and the robot's state."""

from .flow import FlowHead, flow_velocity
from .protocol import Head

__all__ = ["FlowHead", "Head", "flow_velocity"]
