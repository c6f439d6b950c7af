"""Look into what runs have learned.

python recipes/analyze.py heads runs/demo-transfer/seed-*        # maps, and how they go with the gap
python recipes/analyze.py necessity runs/demo-transfer/seed-*    # does the target need their heads?
python recipes/analyze.py patch runs/demo-transfer/seed-* --into runs/demo-target-alone
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hf_lgt import cli

if TYPE_CHECKING:
    from hf_lgt.analysis.subjects import Wanted
    from hf_lgt.report.pieces import Table

WHAT = {
    "heads": "ablation maps and attention matrices of every checkpoint, and how they go with the gap",
    "necessity": "ablate the heads that the auxiliaries need most at long lengths, and score the target",
    "patch": "move heads of the last weights into those of another arm, one by one",
}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Look into the attention heads of runs.", keys=False)
    arguments.add_argument("what", choices=list(WHAT), help="; ".join(f"{k}: {v}" for k, v in WHAT.items()))
    arguments.add_argument("runs", nargs="+", help="folders of runs, as seeds of one arm")
    arguments.add_argument("--tasks", help="heads: some of the runs' tasks, as reverse,capitalize [all]")
    arguments.add_argument(
        "--lengths",
        type=cli.lengths,
        help="as 8,12,16 [heads: longest training lengths of both roles, and halfway; else: all between]",
    )
    arguments.add_argument(
        "--checkpoints", choices=["all", "last"], help="heads: every checkpoint, or the last weights [all]"
    )
    arguments.add_argument("--k", type=cli.lengths, help="necessity: how many heads, as 1,2 [1,2]")
    arguments.add_argument("--into", metavar="ARM", help="patch: folder of the arm whose runs receive")
    arguments.add_argument("--examples", type=cli.positive, default=256, help="a task and length [256]")
    arguments.add_argument("--output", help="folder [analysis/WHAT below the run or beside several]")
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier analysis")
    known, overrides = cli.parse(arguments, argv)
    if overrides:
        arguments.error(f"unknown option --{overrides[0].partition('=')[0]}")
    own = {"tasks": "heads", "checkpoints": "heads", "k": "necessity", "into": "patch"}
    for option, where in own.items():
        if getattr(known, option) is not None and known.what != where:
            arguments.error(f"--{option} is for {where}, not for {known.what}")
    if known.what == "patch" and known.into is None:
        arguments.error("patch needs --into, the folder of the arm whose runs receive")
    return cli.guard(lambda: _analyze(known))


def _analyze(known: argparse.Namespace) -> int:
    from hf_lgt.analysis.subjects import Wanted

    wanted = Wanted(
        tasks=None if known.tasks is None else tuple(known.tasks.split(",")),
        lengths=known.lengths,
        long=known.what != "heads",
        last=known.what != "heads" or known.checkpoints == "last",
        examples=known.examples,
    )
    work = {"heads": _heads, "necessity": _necessity, "patch": _patch}[known.what]
    for table in work(known, wanted):
        print(table.markdown() + "\n")
    return 0


def _heads(known: argparse.Namespace, wanted: Wanted) -> list[Table]:
    from hf_lgt.analysis.subjects import find_subjects
    from hf_lgt.analyze import find_states, look, output_folder
    from hf_lgt.report.heads import FILES, write_heads

    subjects = find_subjects(known.runs, wanted)
    states = find_states(subjects, wanted)
    out = output_folder(subjects, "heads", FILES, known.output, known.overwrite)
    tables = write_heads([*look(states, wanted)], out, replace=known.overwrite)
    print(f"numbers, arrays and figures: {out}\n")
    return tables


def _necessity(known: argparse.Namespace, wanted: Wanted) -> list[Table]:
    from hf_lgt.analysis.subjects import find_subjects
    from hf_lgt.analyze import find_states, output_folder
    from hf_lgt.analyze_causes import look_necessity
    from hf_lgt.report.causes import NECESSITY_FILES, write_necessity

    subjects = find_subjects(known.runs, wanted)
    states = find_states(subjects, wanted)
    out = output_folder(subjects, "necessity", NECESSITY_FILES, known.output, known.overwrite)
    found = [*look_necessity(states, known.k or (1, 2), wanted)]
    tables = write_necessity(found, out, replace=known.overwrite)
    print(f"numbers and figure: {out}\n")
    return tables


def _patch(known: argparse.Namespace, wanted: Wanted) -> list[Table]:
    from hf_lgt.analysis.subjects import find_subjects
    from hf_lgt.analyze import find_states, output_folder
    from hf_lgt.analyze_causes import look_patching, pair_up
    from hf_lgt.report.causes import PATCHING_FILES, write_patching

    donors = find_subjects(known.runs, wanted)
    pairs = pair_up(find_states(donors, wanted), known.into, wanted)
    out = output_folder(donors, "patch", PATCHING_FILES, known.output, known.overwrite)
    tables = write_patching([*look_patching(pairs, wanted)], out, replace=known.overwrite)
    print(f"numbers and figure: {out}\n")
    return tables


if __name__ == "__main__":
    sys.exit(main())
