# SPDX-License-Identifier: Apache-2.0
"""A folder that shows what recorded episodes did: figures, plots and videos."""

from vla_data.report.summary import write_report

__all__ = ["write_report"]
