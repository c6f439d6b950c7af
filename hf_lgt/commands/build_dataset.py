"""Write the mixture of a config as a dataset: `python recipes/build_dataset.py --config FILE`.

The folder holds Parquet files and a README.md; `datasets.load_dataset` and the Hub take it as it is.
With --push_to_hub it is pushed too; the same command again completes a push that failed.
With --lm_eval its test rows become tasks of lm-evaluation-harness, see recipes/lm_eval/README.md.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_lgt.commands import cli

if TYPE_CHECKING:
    import argparse

    from data_builders import CorpusPlan
    from hf_lgt.config.schema import Config

DEFAULT = "demo/transfer"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Write the tasks of a config as a dataset, for this machine or the Hub.")
    arguments.add_argument(
        "--config", type=cli.path, default=DEFAULT, help="YAML file, or a recipe that comes along [demo]"
    )
    arguments.add_argument(
        "--train_examples", type=cli.positive, default=100_000, help="rows to train on [100000]"
    )
    arguments.add_argument("--num_proc", type=cli.positive, help="processes that draw them [1]")
    arguments.add_argument("--output", type=cli.folder, help="folder to write [corpora/<name of the config>]")
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier corpus")
    arguments.add_argument(
        "--lm_eval",
        type=cli.folder,
        metavar="DIR",
        help="write tasks of lm-evaluation-harness for its test rows",
    )
    cli.add_hub_options(arguments, "the corpus")
    known, overrides = cli.parse_options(arguments, argv)

    def work() -> int:
        config = cli.load_run_config(known.config, overrides)
        plan = _plan(config, known.train_examples)
        output = known.output or Path("corpora") / config.name
        more = known.push_to_hub is not None or known.lm_eval is not None
        there = _is_there(output, plan, overwrite=known.overwrite, push=more)
        if known.lm_eval is not None:
            _check_lm_eval(known.lm_eval, output, plan)
        cli.check_hub(known, "dataset")

        if there:
            print(f"{output} holds this corpus already")
        else:
            _build(known, output, plan, _command(known.config, known.train_examples, overrides))
        _show(output)
        if known.push_to_hub is not None:
            _push(known, output, config.name)
        if known.lm_eval is not None:
            # last, so that tasks that name a corpus on the Hub are there only when the corpus is
            _write_lm_eval(known, output, plan, config)
        return 0

    return cli.guard(work)


def _plan(config: Config, train_examples: int) -> CorpusPlan:
    """What the corpus is made of; every fault is the config's."""
    from data_builders import CorpusPlan, TaskError
    from hf_lgt.utils.errors import ConfigError

    if config.data.source == "dataset":
        raise ConfigError(
            ["data.source: 'dataset' has its rows already; a corpus is built of 'generated' examples"]
        )
    test = config.eval
    try:
        mixture = config.build_mixture()
        return CorpusPlan(mixture, train_examples, test.examples, test.grid, config.seed.data, test.seed)
    except TaskError as error:
        raise ConfigError([f"mixture: {error}"]) from None


def _is_there(output: Path, plan: CorpusPlan, *, overwrite: bool, push: bool) -> bool:
    """Whether the folder holds this very corpus, which then only needs to be pushed, or tasks for it.

    Raises:
        ConfigError: there is something that must not be replaced or pushed.
    """
    from data_builders.corpus.marker import FolderError, is_there
    from hf_lgt.checkpointing.run_folder import check_place
    from hf_lgt.utils.atomic_io import clear_drafts
    from hf_lgt.utils.errors import ConfigError

    clear_drafts(output.parent, output.name)
    try:
        there = is_there(output, plan.fingerprint, overwrite=overwrite, push=push)
    except FolderError as error:
        raise ConfigError([f"--output: {error}"]) from None
    if not there:
        check_place(output)
    return there


def _build(known: argparse.Namespace, output: Path, plan: CorpusPlan, command: str) -> None:
    """Write the corpus, whole or not at all."""
    import datasets

    from data_builders import TaskError
    from data_builders.corpus.folder import write_plan
    from hf_lgt.utils.atomic_io import atomic_directory
    from hf_lgt.utils.errors import ConfigError

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    start = time.perf_counter()
    try:
        with atomic_directory(output, replace=known.overwrite) as folder:
            write_plan(folder, plan, num_proc=known.num_proc, command=command)
    except TaskError as error:
        raise ConfigError([f"mixture: {error}"]) from None
    print(f"built in {time.perf_counter() - start:.1f} s")


def _push(known: argparse.Namespace, output: Path, name: str) -> None:
    """Push the files of the corpus, and no other that the folder may hold."""
    from data_builders.corpus.marker import corpus_files
    from data_builders.hub.push import push_folder

    url = push_folder(
        output,
        known.push_to_hub,
        repo_type="dataset",
        private=known.private,
        revision=known.revision,
        message=f"Corpus of {name}",
        # shards and tasks of an earlier corpus
        replaces=["*/train-?????-of-?????.parquet", "*/test-?????-of-?????.parquet"],
        names=corpus_files(output),
    )
    print(f"pushed: {url}")


def _check_lm_eval(folder: Path, output: Path, plan: CorpusPlan) -> None:
    """Refuse a folder for the harness's tasks that holds anything else, or a corpus without any.

    Raises:
        ConfigError: with what is wrong.
    """
    from data_builders import TaskError
    from data_builders.corpus.lm_eval import check_plan, is_replaceable
    from hf_lgt.checkpointing.run_folder import check_place
    from hf_lgt.utils.errors import ConfigError

    there, corpus = folder.resolve(), output.resolve()
    check_place(there, "--lm_eval")
    if there.is_relative_to(corpus) or corpus.is_relative_to(there):
        raise ConfigError([f"--lm_eval: {folder} must be apart from the folder of the corpus, {output}"])
    if there.exists() and not is_replaceable(there):
        raise ConfigError(
            [
                f"--lm_eval: {folder} holds other files than this wrote, or they were edited; choose "
                "another folder"
            ]
        )
    try:
        check_plan(plan)
    except TaskError as error:
        raise ConfigError([f"--lm_eval: {error}"]) from None


def _write_lm_eval(known: argparse.Namespace, output: Path, plan: CorpusPlan, config: Config) -> None:
    """Write the harness's tasks, and show a command that runs them."""
    from data_builders import TaskError
    from data_builders.corpus.lm_eval import safe_name, write_tasks
    from hf_lgt.utils.atomic_io import atomic_directory
    from hf_lgt.utils.errors import ConfigError

    # building took a while, in which somebody may have put something there
    _check_lm_eval(known.lm_eval, output, plan)
    try:
        with atomic_directory(known.lm_eval.resolve(), replace=True) as folder:
            cells = write_tasks(
                folder,
                plan,
                # the harness takes a relative folder from wherever it is started
                known.push_to_hub or str(output.resolve()),
                corpus=output,
                name=config.name,
                tags=config.data.tags,
                revision=known.revision,
            )
    except TaskError as error:
        raise ConfigError([f"--lm_eval: {error}"]) from None
    print(f"{len(cells)} tasks of lm-evaluation-harness in {known.lm_eval}; all of them:")
    include = shlex.quote(str(known.lm_eval))
    print(f"  lm_eval run --include_path {include} --tasks {safe_name(config.name)} ...")


def _command(config: str, train_examples: int, overrides: Sequence[str]) -> str:
    """The command that writes the same rows again, without what only says where."""
    from hf_lgt.config.shipped import CONFIG, recipe_file

    path, here = Path(config).resolve(), Path.cwd()
    words = ["hf-lgt", "build-dataset", "--config"]
    if recipe_file(config, CONFIG) != config:
        words.append(config)
    else:  # the card is public: of a file elsewhere it tells the name, not the folders on somebody's disk
        words.append(str(path.relative_to(here)) if path.is_relative_to(here) else path.name)
    for override in overrides:
        key, _, value = override.partition("=")
        if key not in ("name", "output_dir"):
            words += [f"--{key}", value]
    return shlex.join([*words, "--train_examples", str(train_examples)])


def _show(output: Path) -> None:
    """Print the rows of each task and split, and the size of the folder."""
    from tabulate import tabulate

    from data_builders.corpus.marker import MARKER
    from data_builders.reading import read_json

    rows = read_json(output / MARKER)["rows"]
    table: list[list[Any]] = [[name, splits["train"], splits["test"]] for name, splits in rows.items()]
    print(tabulate(table, headers=["configuration", "train", "test"], tablefmt="github"))
    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    print(f"{size / 1e6:.1f} MB in {output}")


if __name__ == "__main__":
    sys.exit(main())
