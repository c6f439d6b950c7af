"""Examples a second that each task generates on one core: `python benchmarks/generation.py`.

One process, NumPy alone, no threads; the median of several rounds after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from data_builders import get_task, list_tasks
from data_builders.sampling import stream


def rate(name: str, length: int, n: int, rounds: int) -> list[float]:
    """Examples a second of each round."""
    task, rng = get_task(name), stream(0, "benchmark", name)
    task.sample(rng, length, n)
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        task.sample(rng, length, n)
        rates.append(n / (time.perf_counter() - start))
    return rates


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--length", type=int, default=16)
    arguments.add_argument("--examples", type=int, default=16_384, help="examples a call")
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--json", type=Path, help="write the medians here")
    known = arguments.parse_args()
    medians = {}
    for name in list_tasks():
        rates = rate(name, known.length, known.examples, known.rounds)
        medians[name] = statistics.median(rates)
        spread = f"{min(rates) / 1e6:.2f}-{max(rates) / 1e6:.2f}"
        print(f"{name:<20} {medians[name] / 1e6:6.2f} M examples/s  ({spread})")
    if known.json:
        known.json.write_text(
            json.dumps({"length": known.length, "examples_per_second": medians}, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
