# SPDX-License-Identifier: Apache-2.0
"""How long a policy and its way over the network take, and what the hardware would allow."""
