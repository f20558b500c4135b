# SPDX-License-Identifier: Apache-2.0
"""How long a policy takes, and what the hardware would allow."""
