"""Write the natural-language corpus: `python recipes/word_lists/build.py [--push_to_hub ORG/NAME]`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from hf_lgt import cli


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Write English questions about lists of words, as a dataset.", keys=False)
    arguments.add_argument("--output", type=Path, default=Path("corpora/word-lists"), help="folder to write")
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier corpus")
    arguments.add_argument("--train_examples", type=cli.positive, default=200_000, help="rows [200000]")
    arguments.add_argument("--test_examples", type=cli.positive, default=256, help="a kind and length [256]")
    arguments.add_argument("--pairs", type=cli.positive, default=4, help="pairs of opposites in use [4]")
    arguments.add_argument("--seed", type=int, default=0, help="draws the rows [0]")
    cli.add_hub_options(arguments, "the corpus")
    known, stray = cli.parse(arguments, argv)

    def work() -> int:
        from data_builders.registry import TaskError
        from data_builders.word_lists import WordLists, write_word_lists
        from hf_lgt.errors import ConfigError
        from hf_lgt.files import atomic_directory

        if stray:
            raise ConfigError([f"unknown option --{stray[0].partition('=')[0]}"])
        keys = ("train_examples", "test_examples", "pairs", "seed")
        try:
            plan = WordLists(**{key: getattr(known, key) for key in keys})
        except TaskError as error:
            raise ConfigError([f"--{fault}" for fault in str(error).split("\n")]) from None
        done = known.output.exists() and not known.overwrite
        if done and not known.push_to_hub:
            raise ConfigError([f"--output: {known.output} exists; choose another, or add --overwrite"])
        if known.output.exists() and not _is_corpus(known.output):
            raise ConfigError(
                [f"--output: {known.output} holds no word lists, or more; choose another folder"]
            )
        cli.check_hub(known)
        options = " ".join(
            f"--{f.name} {getattr(plan, f.name)}" for f in dataclasses.fields(plan) if f.name in keys
        )
        if not done:
            with atomic_directory(known.output, replace=known.overwrite) as folder:
                counts = write_word_lists(folder, plan, f"python recipes/word_lists/build.py {options}")
            print(*(f"{name}: {rows} rows" for name, rows in counts.items()), f"in {known.output}", sep="\n")
        if known.push_to_hub:
            from data_builders.hub import push_folder

            url = push_folder(
                known.output,
                known.push_to_hub,
                repo_type="dataset",
                private=known.private,
                revision=known.revision,
                message="Word lists",
                replaces=["data/*.parquet"],
            )
            print(f"pushed: {url}")
        return 0

    return cli.guard(work)


def _is_corpus(folder: Path) -> bool:
    """Whether a folder holds what this recipe writes and nothing else."""
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()}
    written = {"README.md", *(f"data/{split}-00000-of-00001.parquet" for split in ("train", "test"))}
    return folder.is_dir() and files == written


if __name__ == "__main__":
    sys.exit(main())
