"""Write one HTML page about experiments and runs: what was trained, figures, tables, every run's config.

`python recipes/report.py runs`, or a comparison's or sweep's own folder, or a run's. The page needs no
network. `python recipes/report.py --pages README.md` writes the results in files of numbers (`sweep.json`)
into Markdown pages.
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
        "runs",
        type=cli.path,
        nargs="?",
        metavar="RUNS_DIR",
        help="folder of runs or experiments, or one of them",
    )
    arguments.add_argument(
        "--pages",
        type=cli.path,
        nargs="+",
        metavar="FILE",
        help="instead: Markdown files with marks as <!-- results sweep.json -->, to bring up to date",
    )
    arguments.add_argument(
        "--output",
        type=cli.path,
        metavar="FOLDER",
        help="folder to write, or an earlier report's [report/ in RUNS_DIR]",
    )
    known = arguments.parse_args(argv)
    if (known.runs is None) == (known.pages is None):
        arguments.error("give RUNS_DIR or --pages, one of the two")
    return cli.guard(lambda: _pages(known.pages) if known.pages else _report(known))


def _pages(files: Sequence[str]) -> int:
    from hf_lgt.experiments.report.pages import write_page

    for file in files:
        for figure in write_page(Path(file)):
            print(f"figure: {figure}")
        print(f"page: {file}")
    return 0


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
