# SPDX-License-Identifier: Apache-2.0
"""A system as processes: its description, what starts, watches and ends it, and the demo."""
