# SPDX-License-Identifier: Apache-2.0
"""Compliant real-time controller core: chunks of tool poses in, joint torques out.

SI units and radians; times are int64 nanoseconds of one controller clock; poses are 4x4 homogeneous
matrices of the tool frame in the base frame. Everything is implemented in C++; see ``_core.pyi``.
"""

from vla_control._core import *  # noqa: F403
