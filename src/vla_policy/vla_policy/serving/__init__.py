# SPDX-License-Identifier: Apache-2.0
"""Policies in another process, virtual environment or machine, over a websocket.

``client`` needs neither torch nor ROS; ``server`` needs no ROS.
"""
