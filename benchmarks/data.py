"""From a task to examples: what a trainer takes, an Arrow file, and texts alone.

`datasets.from_generator` gets the rows from our own vectorised generator, one dictionary each, which is
faster than drawing them one by one. reasoning-gym's `chain_sum` is the nearest that it has to a sum of two
numbers of up to 16 digits.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time

import datasets
import torch

from benchmarks.corpus import row_by_row, strings, with_builder, with_generator
from benchmarks.sides import OURS, Comparison, alternate
from benchmarks.training import padded
from data_builders import get_task, render
from data_builders.corpus.build import FEATURES
from data_builders.sampling import CORPUS_CHUNK, stream
from hf_lgt.data.batch_sources import GeneratedSource
from hf_lgt.data.batching import IGNORE
from hf_lgt.data.codec import Codec

BATCH = 1024


def compare(quick: bool) -> list[Comparison]:
    datasets.disable_progress_bars()
    rounds, chunks = (1, 2) if quick else (5, 16)
    plan, codec = strings(chunks * CORPUS_CHUNK), Codec.build()
    rows = plan.train_examples

    def batches() -> float:
        source = GeneratedSource(plan.mixture, codec, batch_size=BATCH, seed=0)
        start = time.perf_counter()
        for step in range(rows // BATCH):
            batch = source.batch(step)
            torch.from_numpy(batch.ids)
        return time.perf_counter() - start

    def tokenized(columns: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        heads = [codec.head(task) for task in columns["task"]]
        prompts, targets = codec.tokenize(columns["prompt"]), codec.tokenize(columns["target"])
        starts = [[*head, *prompt] for head, prompt in zip(heads, prompts, strict=True)]
        ends = [[*target, codec.eos_id] for target in targets]
        return {
            "input_ids": [a + b for a, b in zip(starts, ends, strict=True)],
            "labels": [[IGNORE] * len(a) + b for a, b in zip(starts, ends, strict=True)],
        }

    def as_usual() -> float:
        with tempfile.TemporaryDirectory() as cache:
            start = time.perf_counter()
            made = datasets.Dataset.from_generator(
                row_by_row, features=FEATURES, gen_kwargs={"plan": plan}, cache_dir=cache
            )
            made = made.map(tokenized, batched=True, remove_columns=made.column_names)
            loader = torch.utils.data.DataLoader(made, BATCH, collate_fn=padded(codec.pad_id))
            for _ in loader:
                pass
            return (time.perf_counter() - start) * rows / len(made)

    def to_arrow(work) -> float:
        with tempfile.TemporaryDirectory() as cache:
            start = time.perf_counter()
            made = work(plan, cache)
            return (time.perf_counter() - start) * rows / made

    name = f"{rows:,} strings"
    found = [
        alternate(
            f"{name} as token batches",
            {OURS: batches, "from_generator, map, DataLoader": as_usual},
            rounds,
            target={"from_generator, map, DataLoader": 30.0},
            note=f"batches of {BATCH}",
        ),
        alternate(
            f"{name} into an Arrow file",
            {OURS: lambda: to_arrow(with_builder), "from_generator": lambda: to_arrow(with_generator)},
            rounds,
            target={"from_generator": 30.0},
            note="ours draws test sets and holds their prompts out, too",
        ),
    ]
    if importlib.util.find_spec("reasoning_gym"):
        found.append(_sums(rounds, 2_000 if quick else 20_000))
    else:
        print("reasoning-gym is not installed; see benchmarks/README.md")
    return found


def _sums(rounds: int, count: int) -> Comparison:
    import reasoning_gym

    def ours() -> float:
        start = time.perf_counter()
        for length in range(1, 17):
            drawn = get_task("reverse_add").sample(stream(0, "benchmark", length), length, count // 16)
            render(drawn.prompt), render(drawn.target)
        return time.perf_counter() - start

    def theirs() -> float:
        settings = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 16}
        made = reasoning_gym.create_dataset("chain_sum", size=count, seed=0, **settings)
        start = time.perf_counter()
        for _ in made:
            pass
        return time.perf_counter() - start

    return alternate(f"{count:,} sums as texts", {OURS: ours, "reasoning-gym": theirs}, rounds)
