# SPDX-License-Identifier: Apache-2.0
"""What recorded episodes did: a folder of figures and plots, one page, or a recording."""
