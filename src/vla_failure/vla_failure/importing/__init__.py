# SPDX-License-Identifier: Apache-2.0
"""Rollouts of other policies, as the recording forks of SAFE (Gu et al., 2025) leave them."""
