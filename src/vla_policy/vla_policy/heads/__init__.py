# SPDX-License-Identifier: Apache-2.0
"""Action heads: what makes a chunk of an encoded prefix and the robot's state."""

from .compiled import CompiledFlow
from .flow import FlowHead, flow_velocity
from .protocol import Head
from .regression import RegressionHead, read_out
from .traced import TracedHead

__all__ = [
    "CompiledFlow",
    "FlowHead",
    "Head",
    "RegressionHead",
    "TracedHead",
    "flow_velocity",
    "read_out",
]
