"""Run every run of a sweep: a grid of settings, arms and seeds, here or on a Slurm cluster.

`python recipes/sweep.py SWEEP.yaml [--executor slurm] [--section.key VALUE ...]`. Finished runs are kept,
whichever sweep made them; interrupted ones resume; the same command completes what is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hf_lgt.commands import cli

if TYPE_CHECKING:
    from hf_lgt.experiments.expand import SweepRun
    from hf_lgt.experiments.spec import SweepSpec


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Run a sweep over settings, arms and seeds; tables and figures.")
    arguments.add_argument("sweep", type=cli.path, help="YAML file, see recipes/paper")
    arguments.add_argument("--seeds", help="initialisation seeds instead of the file's, as 0,1,2")
    arguments.add_argument(
        "--executor", choices=("local", "slurm"), default="local", help="where it runs [local]"
    )
    arguments.add_argument("--jobs", type=cli.positive, help="local: runs at a time [cores; 1 with a GPU]")
    arguments.add_argument(
        "--retries", type=cli.count, default=1, help="further attempts at a run that failed [1]"
    )
    cli.add_together_option(arguments)
    arguments.add_argument("--dry_run", action="store_true", help="only list the runs")
    known, overrides = cli.parse(arguments, argv)

    return cli.guard(lambda: _sweep(known, overrides))


def _sweep(known: argparse.Namespace, overrides: Sequence[str]) -> int:
    import dataclasses

    from hf_lgt.experiments.bundles import bundles
    from hf_lgt.experiments.expand import distinct, expand, manifest_of
    from hf_lgt.experiments.folder_lock import LOGS, only_writer
    from hf_lgt.experiments.launch import check_checkpoints, check_data
    from hf_lgt.experiments.results import collect
    from hf_lgt.experiments.slurm.settings import read_settings
    from hf_lgt.experiments.spec import load_sweep
    from hf_lgt.experiments.todo import prepare, todo
    from hf_lgt.utils.errors import ConfigError

    if known.executor == "slurm" and known.together > 1:
        raise ConfigError([f"--together: {known.together} is for --executor local; leave it out with slurm"])
    spec = load_sweep(known.sweep)
    read_settings(spec.slurm)
    seeds = spec.seeds if known.seeds is None else cli.seeds(known.seeds)
    # the file's other seeds stay in the tables
    spec = dataclasses.replace(spec, seeds=tuple(dict.fromkeys([*spec.seeds, *seeds])))
    every = expand(spec, overrides)
    runs = [run for run in every if run.seed in seeds]
    missing = todo(runs)
    if known.dry_run:
        return _list(runs, missing)
    if known.executor == "slurm" and missing:
        from hf_lgt.experiments.slurm.settings import check_slurm

        check_slurm(spec.slurm)
    bundles(missing, known.together, lambda run: run.config_file)  # before anything is written
    check_data(missing)
    check_checkpoints(missing)
    folder = runs[0].folder
    collect(manifest_of(spec, every), folder)  # what cannot be read is reported before any other is started
    with only_writer(folder, say=print):
        prepare(spec, every)
        wanted = len(distinct(runs))
        print(f"{wanted} runs, {wanted - len(missing)} finished; logs in {folder / LOGS}", flush=True)
        execute = _local if known.executor == "local" else _slurm
        failed = execute(known, spec, missing, folder)
        _tell_failed(failed)
        _show(folder)
    return cli.RUN_ERROR if failed else 0


def _list(runs: Sequence[SweepRun], missing: Sequence[SweepRun]) -> int:
    left = {run.id for run in missing}
    for run in runs:
        print(f"{'to do   ' if run.id in left else 'finished'}  {run.id}  ({run.label})")
    return 0


def _local(
    known: argparse.Namespace, spec: SweepSpec, missing: Sequence[SweepRun], folder: Path
) -> list[tuple[SweepRun, Path]]:
    from hf_lgt.experiments.bundles import bundles
    from hf_lgt.experiments.folder_lock import LOGS
    from hf_lgt.experiments.launch import run_all, usual_jobs
    from hf_lgt.utils.progress import bar

    with bar(total=len(missing), unit="run", desc=spec.name, smoothing=0) as done:
        failed = run_all(
            bundles(missing, known.together, lambda run: run.config_file),
            Path(__file__).with_name("finetune.py"),
            folder / LOGS,
            known.jobs or usual_jobs(),
            lambda bundle, well: done.update(len(bundle.runs)),
            retries=known.retries,
            say=lambda text: done.write(text, file=sys.stderr),
        )
    return [(run, log) for bundle, log in failed for run in bundle.unfinished]


def _show(folder: Path) -> None:
    """Tables and figures of what is finished."""
    from hf_lgt.experiments.manifest import read_manifest
    from hf_lgt.experiments.report.sweeps import write_sweep
    from hf_lgt.experiments.results import collect

    manifest = read_manifest(folder)
    cells = collect(manifest, folder)
    if not cells:
        return
    tables, figures = write_sweep(manifest, cells, folder)
    print(f"\n{tables[0].markdown()}\n\nall tables: {folder / 'sweep.md'}")
    for path in figures:
        print(f"figure: {path}")


def _slurm(
    known: argparse.Namespace, spec: SweepSpec, missing: Sequence[SweepRun], folder: Path
) -> list[tuple[SweepRun, Path]]:
    from hf_lgt.experiments.slurm.submit import run_on_slurm
    from hf_lgt.utils.progress import bar

    with bar(total=len(missing), unit="run", desc=spec.name, smoothing=0) as done:
        return run_on_slurm(
            spec,
            missing,
            folder,
            Path(__file__).with_name("finetune.py"),
            known.retries,
            lambda run, well: done.update(),
            say=lambda text: done.write(text, file=sys.stderr),
        )


def _tell_failed(failed: Sequence[tuple[SweepRun, Path]]) -> None:
    from hf_lgt.experiments.launch import last_error

    # those that were trained together have one log
    for log in dict.fromkeys(log for _, log in failed):
        for run in (run for run, own in failed if own == log):
            print(f"error: {run.id} ({run.label}) failed; see {log}", file=sys.stderr)
        print(last_error(log), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
