"""Train one run: `accelerate launch recipes/finetune.py [--config FILE] [--section.key VALUE ...]`.

Without arguments it trains recipes/demo/transfer.yaml, a few minutes on two CPU cores.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hf_lgt import cli

DEFAULT = Path(__file__).parent / "demo" / "transfer.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Train a target task with its auxiliaries and evaluate it by length.")
    arguments.add_argument("--config", default=str(DEFAULT), help="YAML file [recipes/demo/transfer.yaml]")
    cli.add_run_options(arguments)
    cli.add_hub_options(arguments, "the model, once it is trained,")
    known, overrides = cli.parse(arguments, argv)

    def work() -> int:
        config = cli.load(known.config, overrides)
        cli.check_hub(known, "model")

        from accelerate import PartialState

        from hf_lgt.publish import push_run
        from hf_lgt.report.results import show_results
        from hf_lgt.run import finished, train

        # a rerun completes a push that failed
        result = finished(config) if known.push_to_hub and not known.overwrite else None
        result = result or train(config, overwrite=known.overwrite, resume=known.resume, say=print)
        if PartialState().is_main_process:
            show_results(config, result.records, result.figures, say=print, zero_shot=result.zero_shot)
            print(f"model:  {result.run_dir / 'model'}")
            if known.push_to_hub:
                url = push_run(
                    result.run_dir, known.push_to_hub, private=known.private, revision=known.revision
                )
                print(f"pushed: {url}")
        return 0

    return cli.guard(work)


if __name__ == "__main__":
    sys.exit(main())
