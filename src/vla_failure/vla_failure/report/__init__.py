# SPDX-License-Identifier: Apache-2.0
"""How good detectors are on tasks that they never saw, as figures, plots and a page."""
