# SPDX-License-Identifier: Apache-2.0
"""Thin ROS 2 nodes around the suite's cores, and the `vla` command line."""
