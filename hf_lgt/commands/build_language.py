"""Write a corpus in natural language: `python recipes/language/build.py initials`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hf_lgt.commands import cli

if TYPE_CHECKING:
    import argparse

    from data_builders.corpus.language import LanguageCorpus

KEYS = ("train_examples", "test_examples", "target_length", "auxiliary_length", "test_length", "seed")
"""options that say what the corpus is made of"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Write prompts of a family of tasks in English, as a dataset.", keys=False)
    arguments.add_argument("family", help="initials, sorting or table, see data_builders/language.py")
    arguments.add_argument("--output", type=cli.folder, help="folder to write [corpora/FAMILY]")
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier corpus")
    arguments.add_argument("--train_examples", type=cli.positive, help="rows to train on [40000]")
    arguments.add_argument("--test_examples", type=cli.positive, help="test rows a task and length [256]")
    arguments.add_argument("--target_length", type=cli.positive, help="longest training row of the target")
    arguments.add_argument("--auxiliary_length", type=cli.positive, help="the same of the other tasks")
    arguments.add_argument("--test_length", type=cli.positive, help="longest test row")
    arguments.add_argument("--seed", type=int, help="draws the rows [0]")
    cli.add_hub_options(arguments, "the corpus")
    known, stray = cli.parse_options(arguments, argv)

    def work() -> int:
        from data_builders.corpus.marker import FolderError, is_there
        from hf_lgt.utils.atomic_io import clear_drafts
        from hf_lgt.utils.errors import ConfigError

        if stray:
            raise ConfigError([f"unknown option --{stray[0].partition('=')[0]}"])
        plan, push = _plan(known), known.push_to_hub is not None
        output = known.output or Path("corpora") / plan.family
        clear_drafts(output.parent, output.name)
        try:
            there = is_there(output, plan.fingerprint, overwrite=known.overwrite, push=push)
        except FolderError as error:
            raise ConfigError([f"--output: {error}"]) from None
        cli.check_hub(known, "dataset")
        if there:
            print(f"{output} holds this corpus already")
        else:
            _build(known, plan, output)
        if push:
            _push(known, output, plan)
        return 0

    return cli.guard(work)


def _plan(known: argparse.Namespace) -> LanguageCorpus:
    """What the corpus is made of; every fault is an option's."""
    from data_builders.corpus.language import LanguageCorpus
    from data_builders.registry import TaskError
    from hf_lgt.utils.errors import ConfigError

    given = {key: value for key in KEYS if (value := getattr(known, key)) is not None}
    try:
        return LanguageCorpus(known.family, **given)
    except TaskError as error:
        faults = str(error).split("\n")
        raise ConfigError([f"--{f}" if f.startswith(KEYS) else f"FAMILY: {f}" for f in faults]) from None


def _build(known: argparse.Namespace, plan: LanguageCorpus, output: Path) -> None:
    """Write the corpus, whole or not at all."""
    import datasets

    from data_builders.corpus.language import write_language
    from hf_lgt.utils.atomic_io import atomic_directory

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    options = " ".join(f"--{key} {getattr(plan, key)}" for key in KEYS)
    with atomic_directory(output, replace=known.overwrite) as folder:
        counts = write_language(folder, plan, f"python recipes/language/build.py {plan.family} {options}")
    print(*(f"{name}: {rows} rows" for name, rows in counts.items()), f"in {output}", sep="\n")


def _push(known: argparse.Namespace, output: Path, plan: LanguageCorpus) -> None:
    """Push the files of the corpus, and no other that the folder may hold."""
    from data_builders.corpus.marker import corpus_files
    from data_builders.hub.push import push_folder

    url = push_folder(
        output,
        known.push_to_hub,
        repo_type="dataset",
        private=known.private,
        revision=known.revision,
        message=plan.made_of.title,
        replaces=["data/*.parquet"],
        names=corpus_files(output),
    )
    print(f"pushed: {url}")


if __name__ == "__main__":
    sys.exit(main())
