"""Compare arms over seeds: `python recipes/compare.py recipes/demo [--section.key VALUE ...]`.

Runs that are finished are kept; the others run in parallel processes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hf_lgt import cli


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("Run every arm of a comparison over its seeds; table and figure.")
    arguments.add_argument("comparison", help="folder with a compare.yaml, or such a file")
    arguments.add_argument("--seeds", help="initialisation seeds instead of the file's, as 0,1,2")
    arguments.add_argument("--jobs", type=cli.positive, help="runs at a time [cores; 1 with a GPU]")
    known, overrides = cli.parse(arguments, argv)

    def work() -> int:
        import dataclasses

        from hf_lgt.comparison import check_data, collect, last_error, load_comparison, plan, run_all
        from hf_lgt.files import write_text
        from hf_lgt.folders import is_finished
        from hf_lgt.progress import bar
        from hf_lgt.report.figures import comparison_figure, save_figure
        from hf_lgt.report.tables import comparison_table, success_lines

        comparison = load_comparison(known.comparison)
        if known.seeds is not None:
            comparison = dataclasses.replace(comparison, seeds=cli.seeds(known.seeds))
        planned = plan(comparison, overrides)
        check_data(planned)
        folder = Path(planned[0].config.output_dir) / comparison.name
        missing = [item for item in planned if not is_finished(item.config.run_dir)]
        print(f"{len(planned)} runs, {len(planned) - len(missing)} finished; logs in {folder / 'logs'}")
        with bar(total=len(missing), unit="run", desc=comparison.name, smoothing=0) as runs:
            failed = run_all(
                planned,
                Path(__file__).with_name("finetune.py"),
                folder / "logs",
                known.jobs or (1 if _has_gpu() else len(os.sched_getaffinity(0))),
                lambda item, well: runs.update(),
            )
        for item, log in failed:
            print(f"error: {item.arm}, seed {item.seed} failed; see {log}", file=sys.stderr)
            print(last_error(log), file=sys.stderr)
        if failed:
            return 1

        results = collect(planned)
        table = "\n".join([comparison_table(results), "", *success_lines(results)])
        print(table)
        write_text(folder / "comparison.md", table + "\n")
        rows = [{"arm": r.arm, "seed": r.seed, **asdict(r.summary)} for r in results]
        write_text(folder / "comparison.json", json.dumps(rows, indent=1) + "\n")
        figure = save_figure(comparison_figure(comparison.name, results), folder / "comparison.png")
        print(f"figure: {figure}")
        return 0

    return cli.guard(work)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
