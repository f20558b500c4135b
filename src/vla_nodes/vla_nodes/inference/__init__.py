# SPDX-License-Identifier: Apache-2.0
"""What runs a policy: setup, threads, swaps, and policies without a network. No rclpy."""
