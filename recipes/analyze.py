"""Look into what runs have learned.

python recipes/analyze.py heads runs/demo-transfer/seed-0
python recipes/analyze.py heads runs/demo-transfer/seed-* --lengths 8,12,16
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hf_lgt import cli


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Maps of the attention heads of runs, and how they go with the gap.", keys=False)
    arguments.add_argument("what", choices=["heads"], help="heads: ablation maps and attention matrices")
    arguments.add_argument("runs", nargs="+", help="folders of runs, as seeds of one arm")
    arguments.add_argument("--tasks", help="some of the runs' tasks, as reverse,capitalize [all]")
    arguments.add_argument(
        "--lengths", type=cli.lengths, help="as 8,12,16 [longest training lengths of both roles, and halfway]"
    )
    arguments.add_argument(
        "--checkpoints", choices=["all", "last"], default="all", help="every checkpoint, or the last weights"
    )
    arguments.add_argument("--examples", type=cli.positive, default=256, help="a task and length [256]")
    arguments.add_argument("--output", help="folder [analysis/heads below the run or beside several]")
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier analysis")
    known, overrides = cli.parse(arguments, argv)
    if overrides:
        arguments.error(f"unknown option --{overrides[0].partition('=')[0]}")
    return cli.guard(lambda: _heads(known))


def _heads(known: argparse.Namespace) -> int:
    from hf_lgt.analysis.subjects import Wanted, find_subjects
    from hf_lgt.analyze import find_states, look, output_folder
    from hf_lgt.report.heads import write_heads

    wanted = Wanted(
        tasks=None if known.tasks is None else tuple(known.tasks.split(",")),
        lengths=known.lengths,
        last=known.checkpoints == "last",
        examples=known.examples,
    )
    subjects = find_subjects(known.runs, wanted)
    states = find_states(subjects, wanted)
    out = output_folder(subjects, known.output, known.overwrite)
    for table in write_heads([*look(states, wanted)], out, replace=known.overwrite):
        print(table.markdown() + "\n")
    print(f"figures and arrays: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
