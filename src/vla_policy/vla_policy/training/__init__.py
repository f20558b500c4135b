# SPDX-License-Identifier: Apache-2.0
"""From demonstrations to checkpoints."""
