"""Write the mixture of a config as a dataset: `python recipes/build_dataset.py --config FILE`.

The folder holds Parquet files and a README.md; `datasets.load_dataset` and the Hub take it as it is.
With --push_to_hub it is pushed too; the same command again completes a push that failed.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_lgt import cli

if TYPE_CHECKING:
    from data_builders import CorpusPlan
    from hf_lgt.config import Config

DEFAULT = Path(__file__).parent / "demo" / "transfer.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Write the tasks of a config as a dataset, for this machine or the Hub.")
    arguments.add_argument("--config", default=str(DEFAULT), help="YAML file [recipes/demo/transfer.yaml]")
    arguments.add_argument(
        "--train_examples", type=cli.positive, default=100_000, help="rows to train on [100000]"
    )
    arguments.add_argument("--num_proc", type=cli.positive, help="processes that draw them [1]")
    arguments.add_argument("--output", type=Path, help="folder to write [corpora/<name of the config>]")
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier corpus")
    cli.add_hub_options(arguments, "the corpus")
    known, overrides = cli.parse(arguments, argv)

    def work() -> int:
        config = cli.load(known.config, overrides)
        plan = _plan(config, known.train_examples)
        output = known.output or Path("corpora") / config.name
        there = _is_there(output, plan, overwrite=known.overwrite, push=known.push_to_hub is not None)
        cli.check_hub(known)

        import datasets

        from data_builders import TaskError
        from data_builders.folder import MARKER, write_plan
        from hf_lgt.errors import ConfigError
        from hf_lgt.files import atomic_directory

        if there:
            print(f"{output} holds this corpus already")
        else:
            if not sys.stderr.isatty():
                datasets.disable_progress_bars()
            start = time.perf_counter()
            command = _command(known.config, known.train_examples, overrides)
            try:
                with atomic_directory(output, replace=known.overwrite) as folder:
                    write_plan(folder, plan, num_proc=known.num_proc, command=command)
            except TaskError as error:
                raise ConfigError([f"mixture: {error}"]) from None
            print(f"built in {time.perf_counter() - start:.1f} s")
        _show(output, json.loads((output / MARKER).read_text(encoding="utf-8"))["rows"])
        if known.push_to_hub is not None:
            from data_builders.hub import push_folder

            url = push_folder(
                output,
                known.push_to_hub,
                repo_type="dataset",
                private=known.private,
                revision=known.revision,
                message=f"Corpus of {config.name}",
                # shards and tasks of an earlier corpus
                replaces=["*/train-?????-of-?????.parquet", "*/test-?????-of-?????.parquet"],
            )
            print(f"pushed: {url}")
        return 0

    return cli.guard(work)


def _plan(config: Config, train_examples: int) -> CorpusPlan:
    """What the corpus is made of; every fault is the config's."""
    from data_builders import CorpusPlan, TaskError
    from hf_lgt.errors import ConfigError

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
    """Whether the folder holds this very corpus, which then only needs to be pushed.

    Raises:
        ConfigError: there is something that must not be replaced.
    """
    from data_builders.folder import read_marker
    from hf_lgt.errors import ConfigError

    if not output.exists() and not output.is_symlink():
        return False
    marker = read_marker(output)
    if overwrite:
        if marker is None:
            raise ConfigError([f"--output: {output} holds no corpus; --overwrite replaces nothing else"])
        return False
    if push and marker is not None and marker.get("fingerprint") == plan.fingerprint():
        return True
    what = "" if not push else " and holds no corpus of these settings and this code"
    raise ConfigError([f"--output: {output} exists{what}; choose another folder, or add --overwrite"])


def _command(config: str, train_examples: int, overrides: Sequence[str]) -> str:
    """The command that writes the same rows again, without what only says where."""
    path, here = Path(config).resolve(), Path.cwd()
    words = ["python", "recipes/build_dataset.py", "--config"]
    # the card is public: of a file elsewhere it tells the name, not the folders on somebody's disk
    words.append(str(path.relative_to(here)) if path.is_relative_to(here) else path.name)
    for override in overrides:
        key, _, value = override.partition("=")
        if key not in ("name", "output_dir"):
            words += [f"--{key}", value]
    return shlex.join([*words, "--train_examples", str(train_examples)])


def _show(output: Path, rows: Mapping[str, Mapping[str, int]]) -> None:
    """Print the rows of each task and split, and the size of the folder."""
    from tabulate import tabulate

    table: list[list[Any]] = [[name, splits["train"], splits["test"]] for name, splits in rows.items()]
    print(tabulate(table, headers=["configuration", "train", "test"], tablefmt="github"))
    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    print(f"{size / 1e6:.1f} MB in {output}")


if __name__ == "__main__":
    sys.exit(main())
