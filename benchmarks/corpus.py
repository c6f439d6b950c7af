"""Rows a second from a task to an Arrow file, on one core: `OMP_NUM_THREADS=1 python benchmarks/corpus.py`.

The corpus builder against `datasets.Dataset.from_generator` over the same rows, one Python dictionary
each, as most data sets are built; both write to a fresh cache. Test sets and held-out prompts are part
of the builder's time. Rounds alternate; medians after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow

from data_builders import Component, CorpusPlan, Mixture
from data_builders.corpus.build import FEATURES, build
from data_builders.sampling import CORPUS_CHUNK, draw_chunk


def strings(rows: int) -> CorpusPlan:
    tasks = ("capitalize_reverse", "capitalize", "reverse", "string_copy")
    roles = ("target", "auxiliary", "auxiliary", "auxiliary")
    parts = [Component(task, role, (1, 16)) for task, role in zip(tasks, roles, strict=True)]
    return CorpusPlan(Mixture(parts), rows, 256, range(1, 21))


def mazes(task: str, rows: int) -> CorpusPlan:
    return CorpusPlan(Mixture([Component(task, "target", (32, 32), options={"side": 8})]), rows, 256, [33])


def row_by_row(plan: CorpusPlan) -> Iterator[dict[str, Any]]:
    """The rows of the train split, but for held-out prompts, as dictionaries."""
    for index in range(plan.train_examples // CORPUS_CHUNK):
        draw = draw_chunk(plan.mixture, index, plan.seed)
        for component, (rows, sample) in zip(plan.mixture.components, draw.groups, strict=True):
            for length, (prompt, target) in zip(draw.length[rows].tolist(), sample.text(), strict=True):
                yield {
                    "task": component.task,
                    "role": component.role,
                    "length": length,
                    "prompt": prompt,
                    "target": target,
                    "loss_mask": None,
                }


def with_builder(plan: CorpusPlan, cache: str) -> int:
    return sum(len(split) for split in build(plan, cache_dir=cache).values())


def with_generator(plan: CorpusPlan, cache: str) -> int:
    made = datasets.Dataset.from_generator(
        row_by_row, features=FEATURES, gen_kwargs={"plan": plan}, cache_dir=cache
    )
    return len(made)


def rate(work: Callable[[CorpusPlan, str], int], plan: CorpusPlan) -> float:
    """Rows a second of one build."""
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        rows = work(plan, cache)
        return rows / (time.perf_counter() - start)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--chunks", type=int, default=48, help=f"of {CORPUS_CHUNK} rows of strings")
    arguments.add_argument("--maze_chunks", type=int, default=8)
    arguments.add_argument("--json", type=Path, help="write the medians here")
    known = arguments.parse_args()
    datasets.disable_progress_bars()
    plans = {"strings, lengths 1-16": strings(known.chunks * CORPUS_CHUNK)}
    for task in ("shortest_path", "dfs_trace"):
        plans[f"{task}, 32 nodes of 8x8"] = mazes(task, known.maze_chunks * CORPUS_CHUNK)
    ways = {"builder": with_builder, "from_generator": with_generator}
    medians: dict[str, dict[str, float]] = {}
    for name, plan in plans.items():
        for work in ways.values():
            rate(work, plan)
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(known.rounds):
            for way, work in ways.items():
                rates[way].append(rate(work, plan))
        medians[name] = {way: statistics.median(values) for way, values in rates.items()}
        for way, values in rates.items():
            spread = f"{min(values):,.0f}-{max(values):,.0f}"
            print(f"{name:<32} {way:<16} {medians[name][way]:9,.0f} rows/s  ({spread})")
    if known.json:
        versions = {"python": platform.python_version(), "datasets": datasets.__version__}
        versions["pyarrow"] = pyarrow.__version__
        result = {"rounds": known.rounds, "versions": versions, "rows_per_second": medians}
        known.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
