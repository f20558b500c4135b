# SPDX-License-Identifier: Apache-2.0
"""From what an operator's device says to chunks for the controller."""
