# SPDX-License-Identifier: Apache-2.0
"""`vla bag view`."""

from __future__ import annotations

import argparse
import sys

from vla_data.definitions import DefinitionError
from vla_data.episode_reader import EpisodeReadError
from vla_data.observation import ObservationError
from vla_data.report.rerun_view import RerunMissingError, write_rerun
from vla_data.report.viewer import write_view


def main(options: argparse.Namespace) -> int:
    """Writes the page of a bag, or the recording for Rerun."""
    bag = options.bag.resolve()
    write, ending = (write_rerun, "rrd") if options.rerun else (write_view, "html")
    page = options.out or bag.with_name(f"{bag.name}.{ending}")
    try:
        write(bag, page)
    except (
        RerunMissingError,
        EpisodeReadError,
        ObservationError,
        DefinitionError,
        OSError,
    ) as error:
        print(f"vla bag view: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0
