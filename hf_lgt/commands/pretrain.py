"""Pretrain a small model: `accelerate launch recipes/pretrain.py [--config FILE] [--section.key VALUE ...]`.

Needs no network: it reads text that every machine with Python has. The revisions that it keeps on the way
stand in for those of a large checkpoint: `model.name_or_path: pretrained/<name>`, `model.revision: step-N`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_lgt.commands import cli

if TYPE_CHECKING:
    from hf_lgt.config.load import ConfigSpec

DEFAULT = "pretrained_demo/pretrain"


def form() -> ConfigSpec[Any]:
    from hf_lgt.pretraining.config import PRETRAINING

    return PRETRAINING


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Pretrain a small language model with revisions on the way.", form=form)
    told = "YAML file, or a recipe that comes along [pretrained_demo/pretrain]"
    arguments.add_argument("--config", type=cli.path, default=DEFAULT, help=told)
    cli.add_run_options(arguments)
    cli.add_hub_options(arguments, "every revision, once the model is trained,", branch=False)
    known, overrides = cli.parse_options(arguments, argv)

    def work() -> int:
        from hf_lgt.config.shipped import CONFIG, recipe_file
        from hf_lgt.pretraining.config import load_pretrain_config

        config = load_pretrain_config(recipe_file(known.config, CONFIG), overrides)
        cli.check_hub(known, "model")

        from accelerate import PartialState

        from hf_lgt.models.local_hub import snapshot
        from hf_lgt.pretraining.publish import push_revisions
        from hf_lgt.pretraining.report import AGAIN, FIGURE, validation_table, write_figure
        from hf_lgt.pretraining.run import finished_pretraining, pretrain
        from hf_lgt.report.canvas import optional
        from hf_lgt.utils.threads import use_threads

        use_threads(known.threads)
        # a rerun completes a push that failed
        measured = finished_pretraining(config) if known.push_to_hub and not known.overwrite else None
        measured = measured or pretrain(config, overwrite=known.overwrite, resume=known.resume)
        if PartialState().is_main_process:
            print(validation_table(config, measured))
            with optional(FIGURE, AGAIN):
                print(f"figure:    {write_figure(config, measured, config.run_dir)}")
            print(f"revisions: {config.run_dir}")
            print(f"model:     {snapshot(config.run_dir)}")
            if known.push_to_hub:
                for name, url in push_revisions(config, known.push_to_hub, private=known.private).items():
                    print(f"pushed:    {name}: {url}")
        return 0

    return cli.guard(work)


if __name__ == "__main__":
    sys.exit(main())
