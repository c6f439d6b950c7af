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
    arguments.add_argument("--overwrite", action="store_true", help="remove an earlier run of this name")
    known, overrides = cli.parse(arguments, argv)

    def work() -> int:
        config = cli.load(known.config, overrides)

        from accelerate import PartialState

        from hf_lgt.report.figures import curves_figure, save_figure
        from hf_lgt.report.tables import length_table, summary_lines
        from hf_lgt.run import train

        result = train(config, overwrite=known.overwrite, say=print)
        if PartialState().is_main_process:
            figure = save_figure(curves_figure(config, result.records), result.run_dir / "curves.png")
            print(length_table(config, result.records))
            print(*summary_lines(config, result.records), sep="\n")
            print(f"figure: {figure}\nmodel:  {result.run_dir / 'model'}")
        return 0

    return cli.guard(work)


if __name__ == "__main__":
    sys.exit(main())
