"""Compare arms over seeds, and over pretraining checkpoints where the comparison lists some.

`python recipes/compare.py recipes/demo [--section.key VALUE ...]`. Runs that are finished are kept; the
others run in parallel processes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_lgt.commands import cli

if TYPE_CHECKING:
    from hf_lgt.experiments.bundles import Bundle
    from hf_lgt.experiments.comparison import Comparison, Planned


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Run every arm of a comparison over its seeds; table and figure.")
    arguments.add_argument("comparison", type=cli.path, help="folder with a compare.yaml, or such a file")
    arguments.add_argument("--seeds", help="initialisation seeds instead of the file's, as 0,1,2")
    arguments.add_argument(
        "--checkpoints", metavar="REVISIONS", help="some of the file's revisions, as step-1000,step-2000"
    )
    arguments.add_argument("--jobs", type=cli.positive, help="runs at a time [cores; 1 with a GPU]")
    cli.add_together_option(arguments)
    known, overrides = cli.parse(arguments, argv)

    return cli.guard(lambda: _compare(known, overrides))


def _compare(known: argparse.Namespace, overrides: Sequence[str]) -> int:
    import dataclasses

    from hf_lgt.experiments.bundles import bundles, write_config
    from hf_lgt.experiments.comparison import load_comparison, manifest_of, plan
    from hf_lgt.experiments.folder_lock import LOGS, only_writer
    from hf_lgt.experiments.launch import check_checkpoints, check_data, run_all, usual_jobs
    from hf_lgt.experiments.manifest import CONFIGS, write_manifest
    from hf_lgt.experiments.revisions import choose
    from hf_lgt.utils.progress import bar

    comparison = load_comparison(known.comparison)
    if known.seeds is not None:
        comparison = dataclasses.replace(comparison, seeds=cli.seeds(known.seeds))
    if known.checkpoints is not None:
        chosen = choose(comparison.checkpoints, known.checkpoints)
        comparison = dataclasses.replace(comparison, checkpoints=chosen)
    planned = plan(comparison, overrides)
    check_data(planned)
    check_checkpoints(planned)
    _results(comparison, [item for item in planned if item.finished])  # before any other is started
    folder = Path(planned[0].config.output_dir) / comparison.name
    missing = [item for item in planned if not item.finished]
    jobs = bundles(missing, known.together, lambda item: folder / CONFIGS / f"{Path(item.log).stem}.yaml")
    with only_writer(folder, say=print):
        write_manifest(manifest_of(comparison, planned, folder), folder)
        for bundle in (bundle for bundle in jobs if len(bundle.runs) > 1):
            for file, item in zip(bundle.files, bundle.runs, strict=True):
                write_config(file, item.config)
        print(f"{len(planned)} runs, {len(planned) - len(missing)} finished; logs in {folder / LOGS}")
        with bar(total=len(missing), unit="run", desc=comparison.name, smoothing=0) as runs:
            failed = run_all(
                jobs,
                Path(__file__).with_name("finetune.py"),
                folder / LOGS,
                known.jobs or usual_jobs(),
                lambda bundle, well: runs.update(len(bundle.runs)),
                say=lambda text: runs.write(text, file=sys.stderr),
            )
        return _tell_failed(failed) if failed else _show(comparison, planned, folder)


def _tell_failed(failed: Sequence[tuple[Bundle[Planned], Path]]) -> int:
    from hf_lgt.experiments.launch import last_error

    for bundle, log in failed:
        for item in bundle.unfinished:
            print(f"error: {item.label}, seed {item.seed} failed; see {log}", file=sys.stderr)
        print(last_error(log), file=sys.stderr)  # once for runs that were trained together
    return cli.RUN_ERROR


def _results(comparison: Comparison, planned: Sequence[Planned]) -> list[Any]:
    from hf_lgt.experiments.arms import collect
    from hf_lgt.experiments.checkpoint_curves import collect_checkpoints

    return collect_checkpoints(planned) if comparison.checkpoints else collect(planned)


def _show(comparison: Comparison, planned: Sequence[Planned], folder: Path) -> int:
    from hf_lgt.experiments.report.comparisons import write_checkpoint_comparison, write_comparison

    write = write_checkpoint_comparison if comparison.checkpoints else write_comparison
    text, figures = write(comparison.name, _results(comparison, planned), folder)
    print(text)
    for figure in figures:
        print(f"figure: {figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
