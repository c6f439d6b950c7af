"""Look into what runs have learned.

python recipes/analyze.py heads runs/demo-transfer/seed-*        # maps, and how they go with the gap
python recipes/analyze.py necessity runs/demo-transfer/seed-*    # does the target need their heads?
python recipes/analyze.py patch runs/demo-transfer/seed-* --into runs/demo-target-alone
python recipes/analyze.py related --target capitalize_reverse --candidates reverse,string_copy
python recipes/analyze.py predict runs/pairs-strings --related runs/related-*/related
python recipes/analyze.py theory runs/theory-cpu                 # do labels say which tasks extrapolate?
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data_builders.registry import unknown
from hf_lgt.commands import cli

if TYPE_CHECKING:
    from hf_lgt.config.consent import Consent
    from hf_lgt.experiments.plan import PlannedRun
    from hf_lgt.experiments.spec import ExperimentSpec
    from hf_lgt.report.blocks import Table

CONSENT = ("model.trust_remote_code", "model.use_safetensors")
DEFAULT_CONFIG = "paper/strings_cpu"


class AnalysisKind(NamedTuple):
    """A kind of analysis."""

    about: str
    options: Callable[[argparse.ArgumentParser], None]
    work: Callable[[argparse.Namespace, Sequence[str]], list[Table]]
    keys: Sequence[str] | None = CONSENT
    """keys of a config that may be given; None: all"""
    place: str = "analysis/WHAT below the run or beside several"
    """where it is written by default"""


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in KINDS:
        overview = cli.parser("Look into what runs have learned.", keys=False)
        overview.epilog = "\n".join(f"  {name:<10} {kind.about}" for name, kind in KINDS.items())
        overview.add_argument(
            "what", metavar="{" + ",".join(KINDS) + "}", help="one of these; --help after it tells more"
        )
        overview.error(unknown("analysis", overview.parse_args(words[:1]).what, KINDS))
    kind = KINDS[words[0]]
    arguments = cli.parser(kind.about[0].upper() + kind.about[1:] + ".", keys=kind.keys is None)
    arguments.prog += f" {words[0]}"
    kind.options(arguments)
    arguments.add_argument("--output", type=cli.path, help=f"folder [{kind.place}]")
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier analysis")
    known, overrides = cli.parse_options(arguments, words[1:])
    given = [override.partition("=")[0] for override in overrides]
    if stray := [key for key in given if kind.keys is not None and key not in kind.keys]:
        arguments.error(f"unknown option --{stray[0]}")

    def work() -> int:
        for table in kind.work(known, overrides):
            print(table.markdown() + "\n")
        return 0

    return cli.guard(work)


def _of_runs(arguments: argparse.ArgumentParser, lengths: str) -> None:
    arguments.epilog = "--model.trust_remote_code true runs Python code that comes with a model"
    arguments.add_argument("runs", type=cli.path, nargs="+", help="folders of runs, as seeds of one arm")
    arguments.add_argument("--lengths", type=cli.lengths, help=f"as 8,12,16 [{lengths}]")
    arguments.add_argument("--examples", type=cli.positive, default=256, help="a task and length [256]")


def _consent(overrides: Sequence[str]) -> Consent:
    from hf_lgt.config.consent import consent_of

    return consent_of(None, overrides, Path())


def _heads_options(arguments: argparse.ArgumentParser) -> None:
    _of_runs(arguments, "longest training lengths of both roles, and halfway")
    arguments.add_argument("--tasks", help="some of the runs' tasks, as reverse,capitalize [all]")
    arguments.add_argument(
        "--checkpoints", choices=["all", "last"], default="all", help="all, or the last weights [all]"
    )


def _heads(known: argparse.Namespace, overrides: Sequence[str]) -> list[Table]:
    from hf_lgt.analysis.head_maps import find_states, look, output_folder
    from hf_lgt.analysis.report.heads import FILES, write_heads
    from hf_lgt.analysis.subjects import AnalysisOptions, find_subjects

    tasks = None if known.tasks is None else tuple(known.tasks.split(","))
    last = known.checkpoints == "last"
    wanted = AnalysisOptions(
        tasks=tasks, lengths=known.lengths, last=last, examples=known.examples, consent=_consent(overrides)
    )
    subjects = find_subjects(known.runs, wanted)
    states = find_states(subjects, wanted)
    out = output_folder(subjects, "heads", FILES, known.output, known.overwrite)
    tables = write_heads([*look(states, wanted)], out, replace=known.overwrite)
    print(f"numbers, arrays and figures: {out}\n")
    return tables


def _necessity_options(arguments: argparse.ArgumentParser) -> None:
    _of_runs(arguments, "all beyond the target's training, up to the auxiliaries'")
    arguments.add_argument("--k", type=cli.lengths, help="how many heads, as 1,2 [1,2]")


def _necessity(known: argparse.Namespace, overrides: Sequence[str]) -> list[Table]:
    from hf_lgt.analysis.causal import look_necessity
    from hf_lgt.analysis.head_maps import find_states, output_folder
    from hf_lgt.analysis.report.causes import NECESSITY_FILES, write_necessity
    from hf_lgt.analysis.subjects import AnalysisOptions, find_subjects

    wanted = AnalysisOptions(
        lengths=known.lengths, long=True, last=True, examples=known.examples, consent=_consent(overrides)
    )
    subjects = find_subjects(known.runs, wanted)
    states = find_states(subjects, wanted)
    out = output_folder(subjects, "necessity", NECESSITY_FILES, known.output, known.overwrite)
    found = [*look_necessity(states, known.k or (1, 2), wanted)]
    tables = write_necessity(found, out, replace=known.overwrite)
    print(f"numbers and figure: {out}\n")
    return tables


def _patch_options(arguments: argparse.ArgumentParser) -> None:
    _of_runs(arguments, "all beyond the target's training, up to the auxiliaries'")
    arguments.add_argument(
        "--into", type=cli.path, metavar="ARM", required=True, help="folder of the arm whose runs receive"
    )


def _patch(known: argparse.Namespace, overrides: Sequence[str]) -> list[Table]:
    from hf_lgt.analysis.causal import look_patching, pair_up
    from hf_lgt.analysis.head_maps import find_states, output_folder
    from hf_lgt.analysis.report.causes import PATCHING_FILES, write_patching
    from hf_lgt.analysis.subjects import AnalysisOptions, find_subjects

    wanted = AnalysisOptions(
        lengths=known.lengths, long=True, last=True, examples=known.examples, consent=_consent(overrides)
    )
    donors = find_subjects(known.runs, wanted)
    pairs = pair_up(find_states(donors, wanted), known.into, wanted)
    out = output_folder(donors, "patch", PATCHING_FILES, known.output, known.overwrite)
    tables = write_patching([*look_patching(pairs, wanted)], out, replace=known.overwrite)
    print(f"numbers and figure: {out}\n")
    return tables


def _related_options(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("--target", required=True, help="name of a task")
    arguments.add_argument("--candidates", required=True, help="names of tasks, as reverse,string_copy")
    arguments.add_argument(
        "--config",
        type=cli.path,
        default=DEFAULT_CONFIG,
        help=f"model, training and lengths are those of this run [{DEFAULT_CONFIG}]",
    )
    arguments.add_argument("--steps", type=cli.positive, default=500, help="of each short training [500]")
    arguments.add_argument("--seeds", default="0,1,2", help="seeds of initialisation and data [0,1,2]")
    arguments.add_argument("--by", default="cka", help="the score that ranks [cka]")
    arguments.add_argument("--examples", type=cli.positive, default=128, help="a task and length [128]")
    arguments.add_argument("--jobs", type=cli.positive, help="runs at a time [cores, or GPUs]")


def _related(known: argparse.Namespace, overrides: Sequence[str]) -> list[Table]:
    from hf_lgt.analysis.head_maps import free_folder
    from hf_lgt.analysis.ranking import Question
    from hf_lgt.analysis.relatedness import SCORES
    from hf_lgt.analysis.report.related import RELATED_FILES, write_related
    from hf_lgt.commands.rank import check_apart, check_finished, measure, plan_related
    from hf_lgt.config.shipped import CONFIG, recipe_file
    from hf_lgt.utils.errors import ConfigError

    if known.by not in SCORES:
        raise ConfigError([f"--by: {unknown('score', known.by, list(SCORES))}"])
    candidates = tuple(name.strip() for name in known.candidates.split(","))
    seeds = cli.seeds(known.seeds)
    question = Question(known.target, candidates, known.steps, seeds, known.examples)
    spec, runs = plan_related(question, recipe_file(known.config, CONFIG), overrides)
    out = Path(known.output) if known.output else runs[0].folder / "related"
    check_apart(out, runs)
    free_folder(out, RELATED_FILES, known.overwrite)
    check_finished(question, runs)
    _train(spec, runs, known.jobs)
    tables = write_related(question, measure(question, runs), known.by, out, replace=known.overwrite)
    print(f"numbers and figure: {out}\n")
    return tables


def _train(spec: ExperimentSpec, runs: Sequence[PlannedRun], jobs: int | None) -> None:
    """The short trainings that are not there yet."""
    from hf_lgt.commands.experiment import Execution, execute_runs
    from hf_lgt.experiments.folder_lock import experiment_lock
    from hf_lgt.experiments.launch import last_error
    from hf_lgt.experiments.plan import record_plan, todo
    from hf_lgt.utils.errors import RunError

    missing, folder = todo(runs), runs[0].folder
    with experiment_lock(folder):
        record_plan(spec, runs)
        how = Execution(jobs)
        failed = execute_runs(spec, missing, folder, how, "short trainings")
    if failed:
        run, log = failed[0]
        raise RunError(f"{run.id} ({run.label}) failed; see {log}\n{last_error(log)}")


def _predict_options(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument(
        "sweep", type=cli.path, help="folder of a sweep over pairs of one target and one auxiliary"
    )
    arguments.add_argument(
        "--related",
        type=cli.path,
        nargs="+",
        required=True,
        metavar="FOLDER",
        help="rankings that `related` wrote",
    )


def _predict(known: argparse.Namespace, _: Sequence[str]) -> list[Table]:
    from hf_lgt.analysis.head_maps import free_folder
    from hf_lgt.analysis.prediction import judge
    from hf_lgt.analysis.relatedness import SCORES
    from hf_lgt.analysis.report.related import PREDICTION_FILES, write_prediction
    from hf_lgt.commands.predict import find_pairs

    pairs = find_pairs(Path(known.sweep), [Path(folder) for folder in known.related])
    out = Path(known.output) if known.output else Path(known.sweep) / "analysis" / "predict"
    free_folder(out, PREDICTION_FILES, known.overwrite)
    tables = write_prediction(pairs, judge(pairs, list(SCORES)), out, replace=known.overwrite)
    print(f"numbers and figures: {out}\n")
    return tables


def _theory_options(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("sweep", type=cli.path, help="folder of a sweep with a group a task, each alone")


def _theory(known: argparse.Namespace, _: Sequence[str]) -> list[Table]:
    from hf_lgt.analysis.head_maps import free_folder
    from hf_lgt.analysis.report.theory import THEORY_FILES, write_theory
    from hf_lgt.commands.theory import find_tasks

    sweep = Path(known.sweep)
    out = Path(known.output) if known.output else sweep / "analysis" / "theory"
    free_folder(out, THEORY_FILES, known.overwrite)
    results, missing = find_tasks(sweep)
    if missing:
        print(f"not finished, so not among the tasks: {', '.join(missing)}\n")
    tables = write_theory(results, out, replace=known.overwrite)
    print(f"numbers and figure: {out}\n")
    return tables


KINDS = {
    "heads": AnalysisKind(
        "ablation maps and attention of every checkpoint, against the gap", _heads_options, _heads
    ),
    "necessity": AnalysisKind(
        "ablate the heads that the auxiliaries need most at long lengths, and score the target",
        _necessity_options,
        _necessity,
    ),
    "patch": AnalysisKind(
        "move heads of the last weights into those of another arm, one by one", _patch_options, _patch
    ),
    "related": AnalysisKind(
        "rank candidate auxiliaries of a target by short joint trainings",
        _related_options,
        _related,
        keys=None,
        place="related beside the short runs",
    ),
    "predict": AnalysisKind(
        "judge those rankings by the transfer that a sweep measured",
        _predict_options,
        _predict,
        keys=(),
        place="analysis/predict below the sweep",
    ),
    "theory": AnalysisKind(
        "judge theory's labels of tasks by what a sweep over tasks measured",
        _theory_options,
        _theory,
        keys=(),
        place="analysis/theory below the sweep",
    ),
}

if __name__ == "__main__":
    sys.exit(main())
