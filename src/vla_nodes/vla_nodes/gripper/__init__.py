# SPDX-License-Identifier: Apache-2.0
"""Grippers that are moved by actions."""
