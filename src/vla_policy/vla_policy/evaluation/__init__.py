# SPDX-License-Identifier: Apache-2.0
"""Episodes in lockstep simulation, and figures of them."""
