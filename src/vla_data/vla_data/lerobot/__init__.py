# SPDX-License-Identifier: Apache-2.0
"""Episodes as a LeRobotDataset v3: written from bags, and read back."""
