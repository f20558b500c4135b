# SPDX-License-Identifier: Apache-2.0
"""π0 in the layouts of LeRobot and transformers."""
