# SPDX-License-Identifier: Apache-2.0
"""What the benches of nodes measure, and the load that they make."""
