"""Write the natural-language corpus: `python recipes/word_lists/build.py [--push_to_hub ORG/NAME]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hf_lgt.commands import cli

if TYPE_CHECKING:
    import argparse

    from data_builders.corpus.word_lists import WordLists

KEYS = ("train_examples", "test_examples", "pairs", "seed")
"""options that say what the corpus is made of"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Write English questions about lists of words, as a dataset.", keys=False)
    arguments.add_argument(
        "--output", type=cli.folder, default=Path("corpora/word-lists"), help="folder to write"
    )
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier corpus")
    arguments.add_argument("--train_examples", type=cli.positive, default=200_000, help="rows [200000]")
    arguments.add_argument("--test_examples", type=cli.positive, default=256, help="a kind and length [256]")
    arguments.add_argument("--pairs", type=cli.positive, default=4, help="pairs of opposites in use [4]")
    arguments.add_argument("--seed", type=int, default=0, help="draws the rows [0]")
    cli.add_hub_options(arguments, "the corpus")
    known, stray = cli.parse_options(arguments, argv)

    def work() -> int:
        from data_builders.corpus.marker import FolderError, is_there
        from hf_lgt.utils.atomic_io import clear_drafts
        from hf_lgt.utils.errors import ConfigError

        if stray:
            raise ConfigError([f"unknown option --{stray[0].partition('=')[0]}"])
        plan, push = _plan(known), known.push_to_hub is not None
        clear_drafts(known.output.parent, known.output.name)
        try:
            there = is_there(known.output, plan.fingerprint, overwrite=known.overwrite, push=push)
        except FolderError as error:
            raise ConfigError([f"--output: {error}"]) from None
        cli.check_hub(known, "dataset")
        if there:
            print(f"{known.output} holds this corpus already")
        else:
            _build(known, plan)
        if push:
            _push(known)
        return 0

    return cli.guard(work)


def _plan(known: argparse.Namespace) -> WordLists:
    """What the corpus is made of; every fault is an option's."""
    from data_builders.corpus.word_lists import WordLists
    from data_builders.registry import TaskError
    from hf_lgt.utils.errors import ConfigError

    try:
        return WordLists(**{key: getattr(known, key) for key in KEYS})
    except TaskError as error:
        raise ConfigError([f"--{fault}" for fault in str(error).split("\n")]) from None


def _build(known: argparse.Namespace, plan: WordLists) -> None:
    """Write the corpus, whole or not at all."""
    from data_builders.corpus.word_lists import write_word_lists
    from hf_lgt.utils.atomic_io import atomic_directory

    options = " ".join(f"--{key} {getattr(plan, key)}" for key in KEYS)
    with atomic_directory(known.output, replace=known.overwrite) as folder:
        counts = write_word_lists(folder, plan, f"python recipes/word_lists/build.py {options}")
    print(*(f"{name}: {rows} rows" for name, rows in counts.items()), f"in {known.output}", sep="\n")


def _push(known: argparse.Namespace) -> None:
    """Push the files of the corpus, and no other that the folder may hold."""
    from data_builders.corpus.marker import corpus_files
    from data_builders.hub.push import push_folder

    url = push_folder(
        known.output,
        known.push_to_hub,
        repo_type="dataset",
        private=known.private,
        revision=known.revision,
        message="Word lists",
        replaces=["data/*.parquet"],
        names=corpus_files(known.output),
    )
    print(f"pushed: {url}")


if __name__ == "__main__":
    sys.exit(main())
