"""Evaluate a saved run or any local checkpoint at other lengths.

python recipes/evaluate.py runs/demo-transfer/seed-0 --eval.lengths [1,32] --eval.examples 1024
python recipes/evaluate.py path/to/checkpoint --config recipes/demo/transfer.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hf_lgt.commands import cli


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Evaluate a saved run or checkpoint by length; table, records and figure.")
    arguments.add_argument(
        "model", type=cli.path, help="folder of a run, of one of its checkpoints, or of any model"
    )
    arguments.add_argument("--config", type=cli.path, help="config whose tasks are evaluated [the run's own]")
    arguments.add_argument("--output", type=cli.path, help="folder to write [evaluations/ below the run]")
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier evaluation")
    arguments.add_argument(
        "--check_generation", action="store_true", help="compare with what greedy generate() writes"
    )
    known, overrides = cli.parse_options(arguments, argv)

    def work() -> int:
        from hf_lgt.config.shipped import CONFIG, recipe_file
        from hf_lgt.evaluation.trained_model import find_model
        from hf_lgt.workflows.evaluate import check, reevaluate

        found = find_model(known.model, known.config and recipe_file(known.config, CONFIG), overrides)
        out = reevaluate(found, known.output, known.overwrite)
        if known.check_generation:
            check(found)
        print(f"records: {out / 'eval.jsonl'}")
        return 0

    return cli.guard(work)


if __name__ == "__main__":
    sys.exit(main())
