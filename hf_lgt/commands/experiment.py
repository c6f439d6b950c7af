"""Train what an experiment still lacks, here or on a Slurm cluster, and sum it up."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_lgt.commands import cli
from hf_lgt.evaluation.records import last_step, read_records
from hf_lgt.experiments.bundles import bundles
from hf_lgt.experiments.checkpoint_series import collect_checkpoints
from hf_lgt.experiments.folder_lock import LOGS, experiment_lock
from hf_lgt.experiments.launch import FINETUNE, check_checkpoints, check_data, last_error, run_all, usual_jobs
from hf_lgt.experiments.plan import PlannedRun, distinct, manifest_of, record_plan, todo
from hf_lgt.experiments.report.outputs import write_checkpoint_comparison, write_results
from hf_lgt.experiments.report.stored import Results
from hf_lgt.experiments.results import collect, read_evaluations
from hf_lgt.experiments.slurm.settings import check_slurm
from hf_lgt.experiments.slurm.submit import run_on_slurm
from hf_lgt.experiments.spec import ExperimentSpec
from hf_lgt.report.canvas import optional
from hf_lgt.report.results import complete_figures
from hf_lgt.utils.progress import bar


@dataclass(frozen=True)
class Execution:
    """How runs are executed."""

    jobs: int | None = None
    """processes at a time; None: as `usual_jobs` has it"""
    together: int = 1
    """runs that one process trains"""
    retries: int = 0
    """further attempts at a run that failed"""
    on_slurm: bool = False


Failed = list[tuple[PlannedRun, Path]]
"""runs and their logs"""


def list_runs(wanted: Sequence[PlannedRun]) -> int:
    """Print which runs are finished and which are to do; gives the command's exit status."""
    left = {run.id for run in todo(wanted)}
    for run in wanted:
        print(f"{'to do   ' if run.id in left else 'finished'}  {run.id}  ({run.label})")
    return 0


def run_experiment(
    spec: ExperimentSpec, every: Sequence[PlannedRun], wanted: Sequence[PlannedRun], how: Execution
) -> int:
    """Train those of the wanted runs that are not finished, and write tables and figures.

    Of a comparison these are written once all of its runs are finished.

    Args:
        spec: of the experiment.
        every: its runs, all in its manifest and tables.
        wanted: those that are to be trained now.
        how: where and how many at a time.

    Returns:
        The command's exit status.

    Raises:
        ConfigError: something is wrong with what the runs need, or with finished ones; nothing is written.
    """
    missing, folder = todo(wanted), every[0].folder
    if how.on_slurm and missing:
        check_slurm(spec.slurm)
    bundles(missing, how.together)  # tells of runs that cannot be trained together
    check_data(missing)
    check_checkpoints(missing)
    _results(spec, every)  # what cannot be read is reported before any is started
    with experiment_lock(folder):
        record_plan(spec, every)
        count = len(distinct(wanted))
        print(f"{count} runs, {count - len(missing)} finished; logs in {folder / LOGS}", flush=True)
        failed = execute_runs(spec, missing, folder, how, spec.name)
        _report_failed(failed)
        complete_runs(wanted)
        if spec.kind == "sweep" or not failed:
            _summarize(spec, every)
    return cli.RUN_ERROR if failed else 0


def execute_runs(
    spec: ExperimentSpec, missing: Sequence[PlannedRun], folder: Path, how: Execution, title: str
) -> Failed:
    """Execute runs, each once, with a progress bar; gives those that failed.

    The caller holds the lock of `folder`, the experiment's own, and has called `record_plan`.
    """
    with bar(total=len(missing), unit="run", desc=title, smoothing=0) as done:
        if how.on_slurm:
            return run_on_slurm(spec, missing, folder, how.retries, lambda run, well: done.update())
        jobs = bundles(missing, how.together)
        for bundle in jobs:
            bundle.write_configs()
        failed = run_all(
            jobs,
            FINETUNE,
            folder / LOGS,
            how.jobs or usual_jobs(),
            lambda bundle, well: done.update(len(bundle.runs)),
            how.retries,
        )
    return [(run, log) for bundle, log in failed for run in bundle.unfinished]


def complete_runs(runs: Sequence[PlannedRun]) -> None:
    """Draw the figures of finished runs that were killed before they had them."""
    for run in distinct(runs):
        folder = run.config.run_dir
        if run.finished:
            again = f"hf-lgt evaluate {shlex.quote(str(folder))} draws them"
            with optional("figures", again):
                complete_figures(run.config, last_step(read_records(folder / "eval.jsonl")), folder, again)


def _report_failed(failed: Failed) -> None:
    # those that were trained together have one log
    for log in dict.fromkeys(log for _, log in failed):
        for run in (run for run, own in failed if own == log):
            print(f"error: {run.id} ({run.label}) failed; see {log}", file=sys.stderr)
        print(last_error(log), file=sys.stderr)


def _results(spec: ExperimentSpec, every: Sequence[PlannedRun]) -> list[Any]:
    """What the finished runs scored.

    Raises:
        ConfigError: with every file that cannot be read.
    """
    finished = [run for run in every if run.finished]
    if spec.kind == "comparison":
        if spec.checkpoints:
            return collect_checkpoints(finished)
        read_evaluations(finished)  # reports those that lack something
    return collect(manifest_of(spec, every), every[0].folder)


def _summarize(spec: ExperimentSpec, every: Sequence[PlannedRun]) -> None:
    """Write and show tables and figures of what is finished."""
    results, folder = _results(spec, every), every[0].folder
    if not results:
        return
    if spec.kind == "comparison" and spec.checkpoints:
        text, figures = write_checkpoint_comparison(spec.name, results, folder)
        print(text)
    else:
        tables, figures = write_results(
            spec.kind, Results(manifest_of(spec, every), results, spec.claims), folder
        )
        print(f"\n{tables[0].markdown()}\n\nall tables: {folder / f'{spec.kind}.md'}")
    for path in figures:
        print(f"figure: {path}")
