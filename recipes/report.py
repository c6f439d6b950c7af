"""Write one HTML page about experiments and runs: what was trained, figures, tables, every run's config.

`python recipes/report.py runs`, or a comparison's or sweep's own folder, or a run's. The page needs no
network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hf_lgt.commands import cli


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Write a page about the runs below a folder.", keys=False)
    arguments.add_argument(
        "runs", type=cli.path, metavar="RUNS_DIR", help="folder of runs or experiments, or one of them"
    )
    arguments.add_argument(
        "--output",
        type=cli.path,
        metavar="FOLDER",
        help="folder to write, or an earlier report's [report/ in RUNS_DIR]",
    )
    known = arguments.parse_args(argv)
    return cli.guard(lambda: _report(known))


def _report(known: argparse.Namespace) -> int:
    from data_builders.texts import line
    from hf_lgt.experiments.report.page import LARGEST, write_report

    page, found = write_report(Path(known.runs), Path(known.output) if known.output else None)
    for experiment in found.experiments:
        print(
            f"{line(experiment.manifest.name)}: {experiment.finished} of {len(experiment.runs)} runs finished"
        )
    if found.left_out:
        print(f"{len(found.left_out)} runs of another kind of training are left out")
    if (size := page.stat().st_size) > LARGEST:
        print(f"the page has {size / 1e6:.1f} MB; reports of single experiments are lighter")
    print(f"report: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
