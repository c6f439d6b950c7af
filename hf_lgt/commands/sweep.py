"""Run every run of a sweep: a grid of settings, arms and seeds, here or on a Slurm cluster.

`python recipes/sweep.py SWEEP.yaml [--executor slurm] [--section.key VALUE ...]`. Finished runs are kept,
whichever sweep made them; interrupted ones resume; the same command completes what is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hf_lgt.commands import cli


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Run a sweep over settings, arms and seeds; tables and figures.")
    arguments.add_argument(
        "sweep", type=cli.path, help="YAML file, or a recipe that comes along, as paper/fig04_strings"
    )
    arguments.add_argument("--seeds", help="seeds instead of the file's, as 0,1,2")
    arguments.add_argument(
        "--executor", choices=("local", "slurm"), default="local", help="where it runs [local]"
    )
    arguments.add_argument("--jobs", type=cli.positive, help="local: runs at a time [cores, or GPUs]")
    arguments.add_argument(
        "--retries", type=cli.count, default=1, help="further attempts at a run that failed [1]"
    )
    cli.add_together_option(arguments)
    cli.add_dry_run_option(arguments)
    known, overrides = cli.parse_options(arguments, argv)

    return cli.guard(lambda: _sweep(known, overrides))


def _sweep(known: argparse.Namespace, overrides: Sequence[str]) -> int:
    import dataclasses

    from hf_lgt.commands.experiment import Execution, list_runs, run_experiment
    from hf_lgt.config.shipped import SWEEP, recipe_file
    from hf_lgt.experiments.plan import plan
    from hf_lgt.experiments.slurm.settings import read_settings
    from hf_lgt.experiments.spec import load_sweep
    from hf_lgt.utils.errors import ConfigError

    on_slurm = known.executor == "slurm"
    if on_slurm and known.together > 1:
        raise ConfigError([f"--together: {known.together} is for --executor local; leave it out with slurm"])
    spec = load_sweep(recipe_file(known.sweep, SWEEP))
    read_settings(spec.slurm)
    seeds = spec.seeds if known.seeds is None else cli.seeds(known.seeds)
    # the file's other seeds stay in the tables
    spec = dataclasses.replace(spec, seeds=tuple(dict.fromkeys([*spec.seeds, *seeds])))
    every = plan(spec, overrides)
    wanted = [run for run in every if run.seed in seeds]
    if known.dry_run:
        return list_runs(wanted)
    how = Execution(known.jobs, known.together, known.retries, on_slurm)
    return run_experiment(spec, every, wanted, how)


if __name__ == "__main__":
    sys.exit(main())
