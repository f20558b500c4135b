# SPDX-License-Identifier: Apache-2.0
"""The commands of `vla`, one module each; `cli` declares their arguments."""
