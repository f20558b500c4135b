# SPDX-License-Identifier: Apache-2.0
"""`vla failure report`."""

from __future__ import annotations

import argparse
import sys

from vla_failure import FailureDetectionError
from vla_failure.report.candidates import candidates
from vla_failure.report.page import verdicts
from vla_failure.report.study import Study
from vla_failure.report.writing import PAGE, write_report
from vla_failure.store import read_manifest, read_rollouts
from vla_nodes.commands import figures
from vla_nodes.commands.progress import progress_bar


def main(options: argparse.Namespace) -> int:
    """Judges detectors on tasks that were held out and writes figures, plots and a page."""
    try:
        bindings = [read_manifest(folder)["binding"] for folder in options.rollouts]
        episodes = read_rollouts(*options.rollouts)
        study = Study(
            candidates(episodes, options.detector or ()),
            folds=options.folds,
            repeats=options.repeats,
            alpha=options.alpha,
            seed=options.seed,
        )
        with progress_bar() as progress:
            total = study.folds * study.repeats * len(study.all_candidates)
            bar = progress.add_task("detectors", total=total)
            report = write_report(
                episodes, bindings, study, options.out, lambda name: progress.advance(bar)
            )
    except (FailureDetectionError, OSError) as error:
        print(f"vla failure report: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vla failure report: stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    if options.json:
        print(figures.report(report["figures"], report["settings"]))
        return 0
    print(*verdicts(report), sep="\n")
    print(options.out / PAGE)
    return 0
