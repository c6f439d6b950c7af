"""Every comparison side by side in one run: `python benchmarks/run.py [--quick]`.

    pip install -c constraints.txt -e '.[bench]'
    python benchmarks/run.py                  # 35 minutes on two slow idle cores
    python benchmarks/run.py --growth         # time and memory against sizes, some ten minutes
    python benchmarks/run.py --gpu            # on a machine with a GPU

Writes benchmarks/speed.json and the table of benchmarks/README.md and docs/speed.md; --quick only prints.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is read from the Hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SPEED = ROOT / "benchmarks" / "speed.json"
PARTS = ("training", "evaluating", "data", "runs")


def measure(parts: list[str], quick: bool) -> dict[str, Any]:
    """What speed.json holds."""
    import torch

    from benchmarks import data, evaluating, limits, many_runs, training
    from hf_lgt.utils.environment import describe_environment

    begun, rounds = time.time(), 2 if quick else 5
    found: list[dict[str, Any]] = []
    about: dict[str, Any] = {"memory_bytes_per_second": limits.memory(rounds)}
    if "training" in parts:
        for comparison, setting in training.compare(quick):
            own = comparison.to_dict()
            peak = limits.matrix_products(setting.model().config, setting.batches, rounds)
            reached = setting.useful_flop / own["medians"]["hf_lgt"]
            own |= {"useful_flop": setting.useful_flop, "peak_flop_per_second": peak}
            found.append({**own, "share_of_peak": reached / peak})
    if "evaluating" in parts:
        found.append(evaluating.compare(quick).to_dict())
    if "data" in parts:
        found += [comparison.to_dict() for comparison in data.compare(quick)]
    if "runs" in parts:
        found += [comparison.to_dict() for comparison in many_runs.steps(quick)]
        found.append({**many_runs.compare(quick).to_dict(), "runs": many_runs.count(quick)})
    return {
        "seconds": time.time() - begun,
        "threads": torch.get_num_threads(),
        "environment": {**describe_environment("cpu", 1), "peers": peers()},
        "limits": about,
        "comparisons": found,
    }


def measure_growth(quick: bool) -> int:
    """Run growth.py, write what it measured and draw it; the status of the program."""
    from benchmarks import growth
    from benchmarks.table import write_growth

    measured = growth.measure(quick)
    if not quick:
        SPEED.with_name("growth.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        write_growth(measured)
        growth.draw(measured, SPEED.with_name("growth.png"))
    return 0


def measure_gpu(quick: bool) -> int:
    """Run gpu.py and write what it measured; the status of the program."""
    import torch

    from benchmarks import gpu

    if not quick and not torch.cuda.is_available():
        print("error: --gpu: no GPU is at hand; --quick runs the same code on a CPU", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(gpu.measure(quick, Path(folder)), indent=1)
    print(text)
    if not quick:
        SPEED.with_name("gpu.json").write_text(text + "\n", encoding="utf-8")
    return 0


def peers() -> dict[str, str]:
    """Versions of what is compared with."""
    from importlib import metadata

    known = ("transformers", "trl", "lm_eval", "datasets", "reasoning-gym")
    installed = {own.metadata["Name"].lower().replace("_", "-") for own in metadata.distributions()}
    return {name: metadata.version(name) for name in known if name.replace("_", "-") in installed}


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--quick", action="store_true", help="few rounds and steps; writes nothing")
    arguments.add_argument("--gpu", action="store_true", help="gpu.py alone; writes benchmarks/gpu.json")
    arguments.add_argument(
        "--growth", action="store_true", help="growth.py alone; writes benchmarks/growth.json and growth.png"
    )
    arguments.add_argument("--only", choices=PARTS, nargs="+", help="parts to run; writes nothing [all]")
    known = arguments.parse_args()
    if known.growth:
        return measure_growth(known.quick)
    if known.gpu:
        return measure_gpu(known.quick)
    measured = measure(known.only or list(PARTS), known.quick)
    from benchmarks.table import render, write_tables

    print(render(measured))
    if not known.quick and not known.only:
        SPEED.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        write_tables(measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
