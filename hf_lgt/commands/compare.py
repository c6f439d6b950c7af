"""Compare arms over seeds, and over pretraining checkpoints where the comparison lists some.

`python recipes/compare.py recipes/demo [--section.key VALUE ...]`. Runs that are finished are kept; the
others run in parallel processes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hf_lgt.commands import cli


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Run every arm of a comparison over its seeds; table and figure.")
    arguments.add_argument(
        "comparison",
        type=cli.path,
        help="folder with a compare.yaml, such a file, or a recipe that comes along, as demo",
    )
    arguments.add_argument("--seeds", help="seeds instead of the file's, as 0,1,2")
    arguments.add_argument(
        "--checkpoints", metavar="REVISIONS", help="some of the file's revisions, as step-1000,step-2000"
    )
    arguments.add_argument("--jobs", type=cli.positive, help="runs at a time [cores, or GPUs]")
    cli.add_together_option(arguments)
    cli.add_dry_run_option(arguments)
    known, overrides = cli.parse_options(arguments, argv)

    return cli.guard(lambda: _compare(known, overrides))


def _compare(known: argparse.Namespace, overrides: Sequence[str]) -> int:
    import dataclasses

    from hf_lgt.commands.experiment import Execution, list_runs, run_experiment
    from hf_lgt.config.shipped import COMPARISON, recipe_file
    from hf_lgt.experiments.plan import plan
    from hf_lgt.experiments.revisions import choose
    from hf_lgt.experiments.spec import load_comparison

    spec = load_comparison(recipe_file(known.comparison, COMPARISON))
    if known.seeds is not None:
        spec = dataclasses.replace(spec, seeds=cli.seeds(known.seeds))
    if known.checkpoints is not None:
        spec = dataclasses.replace(spec, checkpoints=choose(spec.checkpoints, known.checkpoints))
    runs = plan(spec, overrides)
    if known.dry_run:
        return list_runs(runs)
    how = Execution(known.jobs, known.together)
    return run_experiment(spec, runs, runs, how)


if __name__ == "__main__":
    sys.exit(main())
