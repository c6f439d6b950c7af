"""Train one run: `accelerate launch recipes/finetune.py [--config FILE] [--section.key VALUE ...]`.

Without arguments it trains recipes/demo/transfer.yaml, some minutes on two CPU cores; with a checkpoint
(--model.name_or_path) and no file, recipes/demo/checkpoint.yaml. Several configs, or --seeds, are trained
together in one process, each with its own folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hf_lgt.commands import cli

if TYPE_CHECKING:
    from hf_lgt.config.schema import Config

DEFAULT, PRETRAINED = "demo/transfer", "demo/checkpoint"
"""recipes; the second has the same tasks without the sizes of a model trained from scratch"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Train a target task with its auxiliaries and evaluate it by length.")
    arguments.add_argument(
        "--config",
        action="extend",
        type=cli.path,
        nargs="+",
        help="YAML file, or a recipe that comes along [demo; demo/checkpoint with --model.name_or_path]; "
        "several are trained together in one process",
    )
    arguments.add_argument(
        "--seeds", help="seeds of initialisation and data, as 0,1,2, trained together in one process"
    )
    cli.add_run_options(arguments)
    cli.add_hub_options(arguments, "the model, once it is trained,")
    known, overrides = cli.parse_options(arguments, argv)

    def work() -> int:
        from hf_lgt.utils.threads import use_threads

        configs = _configs(known.config or [_default(overrides)], known.seeds, overrides)
        use_threads(known.threads)
        if len(configs) > 1 or known.seeds is not None:
            _check_together(known)
            return _train_together(configs, known)
        cli.check_hub(known, "model")
        return _train(configs[0], known)

    return cli.guard(work)


def _default(overrides: Sequence[str]) -> str:
    """The recipe that is taken where none is named."""
    begins_with_one = any(override.startswith("model.name_or_path=") for override in overrides)
    return PRETRAINED if begins_with_one else DEFAULT


def _configs(files: Sequence[str], seeds: str | None, overrides: Sequence[str]) -> list[Config]:
    """The config of every run; the errors of all are reported together."""
    from hf_lgt.utils.errors import ConfigError

    keys = ("seed.init", "seed.data")
    settings = [[]] if seeds is None else [[f"{key}={n}" for key in keys] for n in cli.seeds(seeds)]
    if seeds is not None:
        given = [key for key in dict.fromkeys(o.split("=")[0] for o in overrides) if key in ("seed", *keys)]
        if given:
            raise ConfigError([f"{key}: is set by --seeds too; give one of the two" for key in given])
    configs, faults = [], []
    for file in files:
        for own in settings:
            try:
                configs.append(cli.load_run_config(file, [*overrides, *own]))
            except ConfigError as error:
                faults += error.faults
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return configs


def _check_together(known: argparse.Namespace) -> None:
    """Refuse options that are for a single run."""
    from hf_lgt.utils.errors import ConfigError

    faults = []
    if known.push_to_hub:
        faults.append("--push_to_hub: is for one run; push each with --config and its seed, once it is done")
    if known.resume not in ("auto", "never"):
        faults.append(f"--resume: {known.resume} is for one run; several take auto or never")
    if faults:
        raise ConfigError(faults)
    cli.check_hub(known, "model")


def _train(config: Config, known: argparse.Namespace) -> int:
    from accelerate import PartialState

    from hf_lgt.report.results import show_results
    from hf_lgt.workflows.publish import push_run
    from hf_lgt.workflows.train import finished_result, train

    # a rerun completes a push that failed
    result = finished_result(config) if known.push_to_hub and not known.overwrite else None
    result = result or train(config, overwrite=known.overwrite, resume=known.resume)
    if PartialState().is_main_process:
        show_results(config, result.history, result.figures)
        print(f"model:  {result.run_dir / 'model'}")
        if known.push_to_hub:
            url = push_run(result.run_dir, known.push_to_hub, private=known.private, revision=known.revision)
            print(f"pushed: {url}")
    return 0


def _train_together(configs: Sequence[Config], known: argparse.Namespace) -> int:
    from hf_lgt.report.results import show_results
    from hf_lgt.workflows.train_stacked import train_together

    results = train_together(configs, overwrite=known.overwrite, resume=known.resume)
    for config, result in zip(configs, results, strict=True):
        print(f"\n{result.run_dir}")
        show_results(config, result.history, result.figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
