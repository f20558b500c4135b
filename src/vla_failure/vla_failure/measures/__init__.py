# SPDX-License-Identifier: Apache-2.0
"""How good a detector is, and how sure that is."""
