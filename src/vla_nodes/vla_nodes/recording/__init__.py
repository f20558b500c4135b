# SPDX-License-Identifier: Apache-2.0
"""Bags of episodes: what the recorder decides, and an episode run once more."""
