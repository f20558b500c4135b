# SPDX-License-Identifier: Apache-2.0
"""Who may move the arm, without ROS: the supervisor's state machine and what it knows of others."""
