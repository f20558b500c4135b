# SPDX-License-Identifier: Apache-2.0
"""Action heads: what makes a chunk of an encoded prefix and the robot's state."""

from .flow import FlowHead, flow_velocity
from .protocol import Head
from .regression import RegressionHead, read_out

__all__ = ["FlowHead", "Head", "RegressionHead", "flow_velocity", "read_out"]
